"""The managers: WorkflowManager orchestrates executions, JobManager runs the jobs of this peer."""
