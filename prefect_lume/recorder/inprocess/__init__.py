"""Recording a flow from within its own process."""
