"""The OpenAPI document: every address of REST is in it, with what it answers and how it refuses."""

import json
import re

import pytest
from django.urls import reverse

from jobsite.urls import api_patterns

pytestmark = pytest.mark.django_db


@pytest.fixture
def document(page_as):
    return json.loads(page_as("vera").get(reverse("schema"), {"format": "json"}).content)


def test_every_address_is_in_it(document):
    said = {re.sub(r"{\w+}", "{}", path) for path in document["paths"]}
    routes = {re.sub(r"<[^>]+>", "{}", f"/api/v1/{route.pattern}") for route in api_patterns}
    assert routes - said == set()


def test_every_operation_says_what_it_answers_and_how_it_refuses(document):
    operations = [at for path in document["paths"].values() for at in path.values()]
    assert len(operations) > 40
    for operation in operations:
        assert any(status.startswith("2") for status in operation["responses"])
        (kind,) = operation["responses"]["default"]["content"]
        assert kind == "application/problem+json"


def test_a_real_refusal_has_the_members_that_it_promises(document, page_as):
    answer = page_as("vera").get("/api/v1/jobs", {"limit": "0"})
    shape = document["components"]["schemas"]["Refusal"]
    assert answer.status_code == 400
    assert set(shape["required"]) <= set(answer.json()) <= set(shape["properties"])


def test_every_shape_that_is_named_is_there(document):
    named = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(document)))
    assert named == set(document["components"]["schemas"])
