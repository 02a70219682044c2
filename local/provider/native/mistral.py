"""Mistral's completions: https://docs.mistral.ai/api. They are OpenAI's, but for what `mistral_messages` refuses."""

from fastapi import APIRouter

from local.provider import completion_routes

router = APIRouter()
router.include_router(completion_routes.router, prefix="/v1")
