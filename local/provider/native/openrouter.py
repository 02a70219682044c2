"""OpenRouter's completions: https://openrouter.ai/docs/api-reference/overview. They are as strict as OpenAI's here."""

from fastapi import APIRouter

from local.provider import completion_routes

router = APIRouter()
router.include_router(completion_routes.router, prefix="/api/v1")
