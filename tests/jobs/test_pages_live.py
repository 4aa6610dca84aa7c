"""The live boxes of a job: the same bytes in page, refresh and push, each with its own element."""

import re

import pytest

from live.registry import noun_named
from tests.rollouts import fleet

pytestmark = pytest.mark.django_db


@pytest.fixture
def job(cast):
    fleet.make_nodes(2)
    return fleet.start(fleet.spec_of()).job


@pytest.mark.parametrize("part", ["head", "watch"])
def test_a_box_is_the_same_in_page_refresh_and_push(job, page_as, part):
    vera = page_as("vera")
    alone = vera.get(f"/live/job/{job.pk}/{part}/").content.decode()
    page = vera.get("/jobs/prod/log-shipper/").content.decode()
    pushed = {f.name: f.render(str(job.pk)) for f in noun_named("job").fragments}
    assert alone in page
    assert pushed[part] == alone
    assert f'id="job-{job.pk}-{part}"' in alone


def test_when_the_state_moves_buttons_and_rollouts_are_asked_for_again(job, cast):
    def asking():
        boxes = [f.render(str(job.pk)) for f in noun_named("job").fragments]
        return {
            found for box in boxes for found in re.findall(r"id=\"(\S+-(?:when|panel)-\S+)\"", box)
        }

    before = asking()
    fleet.start(fleet.spec_of(mark="v2"))
    assert len(before) == 2
    assert not before & asking()


def test_the_question_before_a_destructive_act_is_out_of_the_live_heads_reach(job, page_as):
    page = page_as("otto").get("/jobs/prod/log-shipper/?confirm=stop").content.decode()
    target = page.split(f'id="job-{job.pk}-controls"')[1]
    assert target.startswith(" hidden></div>")
    assert 'class="confirm"' in page
