"""Pages and REST answers are compressed for those who can read that, and for nobody else."""

import gzip

import pytest

pytestmark = pytest.mark.django_db
ADDRESSES = ["/jobs/", "/rollouts/", "/api/v1/jobs/schema"]


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_answer_is_compressed_for_a_browser_that_asks_for_it(cast, page_as, address):
    client = page_as("vera")
    answer = client.get(address, headers={"Accept-Encoding": "gzip"})
    assert answer["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in answer["Vary"]
    plain = client.get(address)
    assert "Content-Encoding" not in plain
    assert len(answer.content) < len(plain.content) / 2
    assert gzip.decompress(answer.content)[:15] == plain.content[:15]
