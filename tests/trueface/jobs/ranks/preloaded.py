"""Module that the fork server of these tests imports: also libraries that each first rank would import at its end."""

import scipy.optimize
import scipy.special

from trueface.jobs.ranks import preloaded

IMPORTED = (scipy.optimize, scipy.special, preloaded)
