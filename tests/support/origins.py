"""Texts that are origins, as browsers send them, and texts that are none."""

ORIGINS = ["*", "https://app.example.com", "http://localhost:3000", "http://[::1]:3000", "capacitor://localhost"]
NO_ORIGINS = [
    "app.example.com",
    "https://app.example.com/",
    "https://app.example.com/path",
    "https://App.example.com",
    "https://*.example.com",
    "https://ann@app.example.com",
    "https://app.example.com:",
    "https://",
    "null",
]
