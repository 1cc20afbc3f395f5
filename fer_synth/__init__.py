__version__ = "0.1.0"


def __getattr__(name: str):
    "`fer_synth.pretrained` and `fer_synth.zoo`, which import PyTorch only when they are asked for."
    if name not in ("pretrained", "zoo"):
        raise AttributeError(f"module 'fer_synth' has no attribute '{name}'")
    from importlib import import_module
    zoo = import_module("fer_synth.zoo")
    return zoo.pretrained if name == "pretrained" else zoo
