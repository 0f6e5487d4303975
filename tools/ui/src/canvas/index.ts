export { WorkflowPage } from "./page";
