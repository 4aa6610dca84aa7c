"""Spec texts for the tests of the editor and of the job pages."""

PIPELINE = """\
# Ships one mark a second.
name: {name}
namespace: prod
type: pipeline
selector:
  match_labels:
    role: gateway
rollout:
  strategy: {strategy}
  max_parallel: 50
  canary_count: 1
  health_check:
    deadline: 5m
    interval: 10s
config:
  input:
    generate:
      interval: 1s
      mapping: root.mark = "{mark}"
  output:
    stdout: {{}}
"""


def pipeline(name="log-shipper", *, mark="v1", strategy="canary"):
    """Return the text of a pipeline for every gateway; `mark` makes versions differ."""
    text = PIPELINE.format(name=name, mark=mark, strategy=strategy)
    return text if strategy == "canary" else text.replace("  canary_count: 1\n", "")
