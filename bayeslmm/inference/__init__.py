"""What is asked of a REML or ML fit: profiles and intervals."""

from __future__ import annotations

from bayeslmm.inference.profile import Profile, ProfileTarget, profile_curve, profile_interval

__all__ = ["Profile", "ProfileTarget", "profile_curve", "profile_interval"]
