"""What is asked of a REML or ML fit: profiles and intervals."""

from __future__ import annotations

from bayeslmm.inference.profile import Profile, profile_curve, profile_ends, profile_ends_many
from bayeslmm.inference.profile_coordinates import ProfileTarget

__all__ = ["Profile", "ProfileTarget", "profile_curve", "profile_ends", "profile_ends_many"]
