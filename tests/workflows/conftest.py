"""What the tests of the workflows share: a GitHub of their own, and the servers that a company would have."""

from types import SimpleNamespace

from tests.servers import BUCKET, mlflow_server, s3_server
from tests.workflows.harness import BRANCH_ROLE, ROLE, GitHub

import pytest


@pytest.fixture(scope="module")
def github(finished, tmp_path_factory):
    """A repository at GitHub with no secret and no variable set, as a fresh fork has it."""
    made = GitHub(tmp_path_factory.mktemp("github"), finished)
    yield made
    made.close()


@pytest.fixture(scope="module")
def company(github, tmp_path_factory):
    """The repository with everything switched on: a DVC remote in S3, a registry, Slack."""
    with s3_server(tmp_path_factory.mktemp("s3")) as s3, mlflow_server(tmp_path_factory.mktemp("mlflow")) as mlflow:
        github.variables |= {
            "DVC_REMOTE_URL": f"s3://{BUCKET}/dvc",
            "AWS_ENDPOINT_URL_S3": s3,
            "AWS_ROLE_ARN": ROLE,
            "AWS_BRANCH_ROLE_ARN": BRANCH_ROLE,
            "MLFLOW_TRACKING_URI": mlflow,
            "ALERT_PULL_REQUESTS": "true",
        }
        github.secrets["SLACK_WEBHOOK_URL"] = f"{github.url}/slack"
        yield SimpleNamespace(github=github, s3=s3, mlflow=mlflow)
