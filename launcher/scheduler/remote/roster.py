"""The pilots of one engine with their records: what is known of a pilot changes on the disk first."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from launcher.pilots.folder import PilotFolder, PilotSpec
from launcher.scheduler.remote.link import PilotLink
from launcher.scheduler.remote.pilot import Pilot
from launcher.scheduler.remote.pilot_records import PilotRecord, PilotRecords

Linker = Callable[[PilotFolder, PilotSpec], PilotLink]


class Roster:
    """All pilots that one engine was sent, and may know."""

    def __init__(self, records: PilotRecords, link: Linker) -> None:
        """Begin without pilots."""
        self._records, self._link = records, link
        self._pilots: dict[str, Pilot] = {}
        self.trouble = ""  # why the home cannot be written

    def __iter__(self) -> Iterator[Pilot]:
        return iter(tuple(self._pilots.values()))

    def __len__(self) -> int:
        return len(self._pilots)

    def __contains__(self, token: str) -> bool:
        return token in self._pilots

    def __getitem__(self, token: str) -> Pilot:
        return self._pilots[token]

    @property
    def held(self) -> int:
        """How many count against the most that there may be."""
        return sum(pilot.held for pilot in self)

    @property
    def expected(self) -> int:
        """How many will take work, and have not spoken yet."""
        return sum(pilot.expected for pilot in self)

    def is_recorded(self, token: str) -> bool:
        """Tell whether the home has a record of a pilot, of whichever engine."""
        return self._records.has(token)

    def adopt(self, record: PilotRecord) -> None:
        """Take over a pilot of an earlier scheduler."""
        link = self._link(record.pilot_folder, record.spec)
        self._pilots[record.token] = Pilot(record, link, adopted=True)

    def add(self, record: PilotRecord) -> Pilot | None:
        """Add a pilot that is to be submitted; None where that cannot be put down."""
        pilot = Pilot(record, self._link(record.pilot_folder, record.spec))
        pilot.made = False
        # hundreds for one job each: a record is synced when an attempt is there; before that, such a pilot that
        # nobody knows leaves by itself
        if not self.write(pilot, record, durable=not record.spec.single):
            return None
        self._pilots[record.token] = pilot
        return pilot

    def doom(self, pilot: Pilot, why: str) -> bool:
        """See that a pilot ends; False where that cannot be put down now."""
        return pilot.is_doomed or self.write(pilot, replace(pilot.record, cancelled=why))

    def write(self, pilot: Pilot, record: PilotRecord, *, durable: bool = True) -> bool:
        """Put down what is known of a pilot; False where that cannot be."""
        try:
            self._records.write(record, durable=durable)
        except OSError as error:
            self.trouble = f"the record of pilot {pilot.token} cannot be written: {error}"
            return False
        pilot.record, pilot.durable, self.trouble = record, durable, ""
        return True

    def forget(self, pilot: Pilot) -> None:
        """Delete the record of a pilot of which nothing is left."""
        try:
            self._records.delete(pilot.token)
        except OSError as error:
            self.trouble = f"the record of pilot {pilot.token} cannot be deleted: {error}"
            return
        self.trouble = ""
        del self._pilots[pilot.token]
