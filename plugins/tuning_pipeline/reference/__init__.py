"""What is written from the declarations of a study file's keys: the annotated example, and the reference page."""
