"""Serve diffusion models - text, images and video - from one OpenAI-compatible endpoint on Ray Serve."""
