"""``streamguard check --hash-identity``: what the policy calls a number or a trunk."""

from __future__ import annotations

import sys
from pathlib import Path

from streamguard.config import load_config
from streamguard.console import say
from streamguard.errors import ConfigError, ConfigProblem
from streamguard.events import Identity, IdentityKind
from streamguard.policy import identity_tag, read_key


def hash_identities(config_path: Path, kind: str) -> int:
    """One hash per line of standard input, in order; empty lines stay empty.

    From standard input, so that no number stands in a process list or a shell's history. Raises
    ConfigError where the configuration names no key.
    """
    policy = load_config(config_path).policy
    if policy.identity_key is None:
        allowed = "name the key of the hashes (env, file or credential)"
        problem = ConfigProblem(str(config_path), 0, "policy.identity_key", "null", allowed)
        raise ConfigError((problem,))
    key = read_key(policy.identity_key, config_path)
    for line in sys.stdin:
        text = line.strip()
        say(identity_tag(key, Identity(IdentityKind(kind), text)) if text else "")
    return 0
