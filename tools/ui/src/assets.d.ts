/** What esbuild takes besides TypeScript. */
declare module "*.css";
