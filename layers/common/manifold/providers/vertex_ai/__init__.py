"""Vertex AI: batches of Gemini's and Claude's models, with their files in Cloud Storage."""
