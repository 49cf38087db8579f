"""What a DAG file needs: the studies, their forms, schedules and notifiers."""
