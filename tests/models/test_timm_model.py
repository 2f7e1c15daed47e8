import pytest
import timm
import torch
from huggingface_hub import constants as hub
from omegaconf import OmegaConf

from core.app import CONFIG
from core.errors import ConfigError, DataError
from core.preprocessing import Preprocessing
from models import timm_model
from models.timm_model import TimmModel, preprocessing_of

SMALL = ("test_resnet", "test_efficientnet", "test_vit")


NAMED = sorted(
    node["model"]["timm_name"]
    for node in (OmegaConf.load(path) for path in (CONFIG / "models").glob("*.yaml"))
    if node["model"].get("timm_name")
)
"""What the files of config/models ask timm for."""


@pytest.fixture(params=SMALL)
def model(request: pytest.FixtureRequest) -> TimmModel:
    torch.manual_seed(0)
    return TimmModel(request.param, pretrained=False, num_classes=7).eval()


def test_logits_are_those_of_timm_on_normalised_images(model: TimmModel) -> None:
    images = torch.rand(2, 3, 160, 160)
    mean = torch.tensor(model.preprocessing.mean).view(3, 1, 1)
    std = torch.tensor(model.preprocessing.std).view(3, 1, 1)
    with torch.no_grad():
        logits, expected = model(images), model.backbone((images - mean) / std)
    torch.testing.assert_close(logits, expected)
    assert model.num_classes == logits.shape[1] == 7


def test_features_are_those_that_timm_calls_pre_logits(model: TimmModel) -> None:
    images = torch.rand(2, 3, 160, 160)
    with torch.no_grad():
        features = model.forward_features(images)
        maps = model.backbone.forward_features(model.normalise(images))
        expected = model.backbone.forward_head(maps, pre_logits=True)
    torch.testing.assert_close(features, expected)
    assert features.shape == (2, model.embedding_dim)


def test_preprocessing_is_what_timm_says() -> None:
    network = timm.create_model("resnet18")
    assert preprocessing_of(network) == Preprocessing(
        size=(224, 224),
        crop=0.95,
        interpolation="bicubic",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )


def test_preprocessing_belongs_to_the_weights() -> None:
    assert TimmModel("resnet18.tv_in1k", pretrained=False).preprocessing.crop == 0.875


def test_a_model_without_a_name_says_what_to_pass() -> None:
    with pytest.raises(ConfigError, match=r"needs model.timm_name, such as resnet18"):
        TimmModel()


def test_an_unknown_name_gets_the_nearest_and_no_list_of_a_thousand() -> None:
    with pytest.raises(ConfigError, match=r"no model 'resnet18z', did you mean 'resnet18") as told:
        TimmModel("resnet18z", pretrained=False)
    assert len(str(told.value)) < 300


def test_unknown_weights_are_told_with_those_that_exist() -> None:
    with pytest.raises(ConfigError, match=r"no weights 'tv_in2k' for resnet18\. Known: .*tv_in1k"):
        TimmModel("resnet18.tv_in2k", pretrained=False)


class Hub:
    """The session that the hub's library asks with."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault = fault

    def head(self, url: str, *, timeout: float) -> None:
        assert (url, timeout) == ("https://huggingface.co", 10)
        if self.fault is not None:
            raise self.fault


@pytest.mark.parametrize("answers", [True, False])
def test_a_hub_that_does_not_answer_is_asked_once(
    answers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def create(name: str, *, pretrained: bool) -> None:
        assert hub.HF_HUB_OFFLINE is not answers  # what was fetched before is still found
        raise OSError("not in the cache")

    fault = None if answers else ConnectionError("no route to host\nmore")
    monkeypatch.setattr(timm_model, "get_session", lambda: Hub(fault))
    monkeypatch.setattr(timm_model.timm, "create_model", create)
    reason = "not in the cache" if answers else "https://huggingface.co does not answer: no route"
    with pytest.raises(DataError, match=rf"could not be fetched \({reason}"):
        TimmModel("resnet18.tv_in1k")
    assert hub.HF_HUB_OFFLINE is False


def test_weights_that_nobody_published_are_told_also_without_a_hub(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timm_model, "get_session", lambda: Hub(ConnectionError("no route")))
    with pytest.raises(DataError, match=r"could not be fetched \(No pretrained weights exist"):
        TimmModel("resnet200")


@pytest.mark.parametrize("error", [OSError("no route to host\nretry"), RuntimeError("no weights")])
def test_weights_that_cannot_be_fetched_say_what_to_do(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(name: str, *, pretrained: bool) -> None:
        assert pretrained
        raise error

    monkeypatch.setattr(timm_model, "get_session", Hub)
    monkeypatch.setattr(timm_model.timm, "create_model", offline)
    with pytest.raises(DataError) as told:
        TimmModel("resnet18.tv_in1k")
    reason = str(error).splitlines()[0]
    assert str(told.value) == (
        f"the weights of resnet18.tv_in1k could not be fetched ({reason}); "
        "pass model.checkpoint=PATH, or model.pretrained=false for random weights"
    )


@pytest.mark.parametrize("name", NAMED)
def test_the_weights_that_our_configurations_name_exist(name: str) -> None:
    known = timm.get_pretrained_cfg(name)
    assert f"{known.architecture}.{known.tag}" == name
    assert (known.num_classes, known.input_size) == (1000, (3, 224, 224))  # as their headers say


@pytest.mark.parametrize("pretrained", [None, True])
def test_a_checkpoint_means_that_nothing_is_fetched(
    pretrained: bool | None, tmp_path: pytest.TempPathFactory
) -> None:
    torch.manual_seed(0)
    stored = TimmModel("test_resnet", pretrained=False).eval()
    path = f"{tmp_path}/a.pt"
    torch.save(stored.backbone.state_dict(), path)
    images = torch.rand(1, 3, 160, 160)
    # A fetch would fail this test: it has no network.
    loaded = TimmModel("test_resnet", checkpoint=path, pretrained=pretrained).eval()
    with torch.no_grad():
        assert torch.equal(loaded(images), stored(images))


@pytest.mark.slow
def test_the_real_library_without_a_network_says_what_to_do(
    tmp_path: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DataError, match=r"the weights of test_vit could not be fetched"):
        TimmModel("test_vit")
