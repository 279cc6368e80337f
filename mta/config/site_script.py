"""The policy file that administrators have put into force over ManageSieve, as the last of policy.scripts."""

from __future__ import annotations

import os.path

from msgspec.structs import replace

from mta.config.problems import Findings
from mta.config.schema import Config
from mta.scripts.names import active_script, site_folder


def with_site_script(config: Config, findings: Findings) -> Config:
    """The configuration with the active script of the site, if there is one; only links are read."""
    try:
        path = active_script(site_folder(config.process.state_directory))
    except OSError as error:
        findings.add(
            ("policy", "scripts"), "it cannot be seen which script of ManageSieve is active", "rights for it",
            reason=error.strerror or str(error), warning=True,
        )  # fmt: skip
        return config
    if not path or not os.path.exists(path):
        return config
    scripts = (*config.policy.scripts, path)
    return replace(config, policy=replace(config.policy, scripts=scripts))
