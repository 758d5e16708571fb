"""The threads of the app. Each belongs to the app, never to a widget, and posts its news, which is thread-safe."""
