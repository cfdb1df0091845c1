"""What a job asks of the machine and of the queue, option by option."""

from dataclasses import dataclass, field, replace

from launcher.job import Resources, Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """What a job asks for, before it is known whether a GPU would help it."""

    resources: Resources = field(default_factory=Resources)
    terms: Terms = field(default_factory=Terms)
    priority: int = 0
    gpus: int | None = None  # None: not given, and `resources` has one where it works on GPUs

    @property
    def wants_gpu(self) -> bool:
        """Whether an option asks for a GPU, be it without saying which."""
        resources = self.resources
        return self.gpus is not None or resources.min_vram is not None or resources.exclusive

    def without_gpu(self) -> "JobRequest":
        """Return what holds for a job that needs no GPU: what all ask for of GPUs is not for it."""
        resources = replace(self.resources, device="auto", min_vram=None, gpus=1, exclusive=False)
        return replace(self, resources=resources, gpus=None)

    def on_device(self, device: str) -> "JobRequest":
        """Return the request with another device."""
        return replace(self, resources=replace(self.resources, device=device))
