"""What an agent says of its machine: which of it is told as news, and in which words."""

from nodes.facts import changes_in_words, lasting


def test_what_every_look_changes_is_no_news():
    assert lasting({"uptime": 3, "memory": {}, "kernel_version": "6.1"}) == {
        "kernel_version": "6.1"
    }


def test_a_change_is_told_in_words_that_people_read():
    told = changes_in_words({"agent_version", "revision"}, {"cpu_count": 2, "uptime": 1},
                            {"uptime": 9, "service_mgr": "systemd"})  # fmt: skip
    assert told == "its agent reports other agent version, cpu count, service mgr"
    assert changes_in_words({"labels", "reported_labels"}, {}, {}).endswith("other labels")
