"""The demo: adapt the shipped model to one site with LoRA, and report what that is worth.

A *site* is one snapshot of many users whose channels are spatially consistent: users who stand close see similar
clusters. Some of them adapt the model, the others judge it.
"""

from airlam.evaluation.demo.site_demo import SiteDemo, run

__all__ = ["SiteDemo", "run"]
