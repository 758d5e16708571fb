"""The terminal itself: nothing unsafe, nothing twice, nothing after it is gone."""
