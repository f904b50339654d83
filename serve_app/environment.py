"""What the application reads from environment variables: folders and secrets. No other serving code reads them."""

import os
from dataclasses import dataclass, field
from pathlib import Path


def home_folder() -> Path:
    """`DIFFUSION_SERVE_HOME`, else diffusion-serve in the user's cache folder."""
    if home := os.environ.get("DIFFUSION_SERVE_HOME"):
        return Path(home)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "diffusion-serve"


def keep_compiled(home: Path) -> None:
    """Names folders below `home` to SGLang, where it keeps what FlashInfer, Triton, Inductor, deep_gemm and its own
    compilers made, so that the next start compiles nothing. A variable that is set already stays. Call it before
    sglang is imported.
    """
    folder = home.absolute() / "compiled"
    os.environ.setdefault("SGLANG_CACHE_DIR", str(folder))
    os.environ.setdefault("SGLANG_JIT_CACHE_DIR", str(folder / "jit"))


def secret(variable: str | None) -> str | None:
    """The value of an environment variable that the settings name; None where unnamed, unset or empty."""
    return (os.environ.get(variable) or None) if variable else None


@dataclass(frozen=True, slots=True)
class S3Access:
    """How to reach S3, as botocore names it. Without a key its own chain finds one (profile, web identity, role)."""

    endpoint_url: str | None = None
    aws_access_key_id: str | None = None
    aws_secret_access_key: str | None = field(default=None, repr=False)
    aws_session_token: str | None = field(default=None, repr=False)
    region_name: str | None = None


def s3_access() -> S3Access:
    """S3's endpoint and credentials from AWS's variables, else from FSSPEC_S3_KEY, _SECRET and _ENDPOINT_URL."""
    read = os.environ.get
    endpoint = read("AWS_ENDPOINT_URL_S3") or read("AWS_ENDPOINT_URL") or read("FSSPEC_S3_ENDPOINT_URL") or None
    region = read("AWS_REGION") or read("AWS_DEFAULT_REGION") or ("us-east-1" if endpoint else None)
    if read("AWS_ACCESS_KEY_ID"):
        key, hidden, token = read("AWS_ACCESS_KEY_ID"), read("AWS_SECRET_ACCESS_KEY"), read("AWS_SESSION_TOKEN")
    else:
        key, hidden, token = read("FSSPEC_S3_KEY"), read("FSSPEC_S3_SECRET"), read("FSSPEC_S3_TOKEN")
    return S3Access(endpoint, key or None, hidden or None, token or None, region)
