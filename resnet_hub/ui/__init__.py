"""The app, one file a tab. Only this package and `app.py` import gradio; torch waits for a first use."""
