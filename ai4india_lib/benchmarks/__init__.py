"""How fast text is written, and where the time goes. Measures the rooms; no room uses it."""
