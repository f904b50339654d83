"""The Serve classes: text, image, video and the sweeper of jobs. `app.py` wraps them; tests call them as they are."""
