"""`/v1/embeddings`: OpenAI's embeddings, over the same queue."""

from flask import Blueprint, Response, g

from app.api import parameters as p
from app.api import peer
from app.api.answers import admit, json_answer
from app.api.body import read_json
from app.api.operation import Answer, Operation, route
from app.api.schemas import EmbeddingList
from app.api.services import services
from app.domain.lanes import Lane
from app.errors import RequestError
from app.intake import embedding_request, embedding_view
from app.intake.authenticate import Principal
from app.intake.embedding_request import EmbeddingRequest
from app.observability import metrics

blueprint = Blueprint("embeddings", __name__)


@route(
    blueprint,
    Operation(
        "createEmbeddings",
        "POST",
        "/v1/embeddings",
        "embeddings",
        "Embed texts",
        "As OpenAI's. Each text is a job like any other; the answer is held until all have succeeded. If one"
        " does not, or not in time, or the client leaves, the rest is canceled.",
        scope="jobs:write",
        parameters=(p.CONTENT_ENCODING,),
        body=EmbeddingRequest,
        answers={200: Answer("The vectors, in the order of the texts.", EmbeddingList)},
        errors=(
            *p.BODY_ERRORS,
            "model_not_found",
            "invalid_request",
            "model_does_not_embed",
            "invalid_input",
            *p.FULL_ERRORS,
            "embedding_failed",
            "embedding_timeout",
            "too_many_waiters",
        ),
    ),
)
def create(principal: Principal) -> Response:
    """Vectors of one or many texts."""
    embedder = services().embedder
    try:
        asked = embedding_request.read(read_json())
        prepared = embedder.prepare(principal, asked)
        admit(principal, Lane.INTERACTIVE, len(prepared.jobs), device=prepared.version.spec.device)
    except RequestError as error:
        metrics.ACCEPT_REFUSED.labels(error.code).inc()
        raise
    g.held = True
    done = embedder.embed(prepared, peer.has_left)
    return json_answer(embedding_view.answer(asked.model, done.vectors, done.tokens))
