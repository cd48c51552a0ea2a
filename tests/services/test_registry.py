"""register against a real `mlflow server` on loopback, with artifacts that go through it."""

import mlflow


def test_a_model_is_registered_once_and_served_from_there(clone, server, monkeypatch):
    for said in ("version 1 is champion", "version 1 (there already) is champion"):
        assert said in clone.ok("python", "-m", "stages.register", MLFLOW_TRACKING_URI=server)
    assert not (clone.folder / "mlflow.db").exists()
    mlflow.set_tracking_uri(server)
    monkeypatch.chdir(clone.folder)
    assert mlflow.pyfunc.load_model("models:/churn@champion").metadata.get_input_schema() is not None
    versions = mlflow.MlflowClient().search_model_versions("name='churn'")
    assert [int(version.version) for version in versions] == [1]
