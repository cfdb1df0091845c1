"""A window on more lines than fit: which of them are seen."""

from dataclasses import dataclass


@dataclass(slots=True)
class Window:
    """Where a list of lines is looked at; `follows` keeps to its end as it grows."""

    top: int = 0
    follows: bool = False
    count: int = 0  # lines in all
    height: int = 1

    @property
    def end(self) -> int:
        """The line after the last that is seen."""
        return min(self.count, self.top + self.height)

    @property
    def page(self) -> int:
        """Lines of a screenful, one less than fit so that the eye finds its place again."""
        return max(1, self.height - 1)

    def fit(self, count: int, height: int) -> None:
        """Take note of how many lines there are and fit."""
        self.count, self.height = count, max(1, height)
        self.top = self._most if self.follows else min(max(0, self.top), self._most)

    def move(self, lines: int) -> None:
        """Scroll; a window that follows does so no more where it is moved away from the end."""
        self.top = min(max(0, self.top + lines), self._most)
        self.follows = self.follows and self.top == self._most

    def show(self, first: int, end: int) -> None:
        """Scroll as little as possible so that these lines are seen, the first of them at least."""
        if end > self.top + self.height:
            self.top = end - self.height
        if first < self.top:
            self.top = first
        self.top = min(max(0, self.top), self._most)

    def press(self, key: str) -> bool:
        """Scroll by a key; tell whether it was one of those that scroll."""
        match key:
            case "j" | "down":
                self.move(1)
            case "k" | "up":
                self.move(-1)
            case "pagedown" | "space":
                self.move(self.page)
            case "pageup":
                self.move(-self.page)
            case "g" | "home":
                self.move(-self.count)
            case "G" | "end":
                self.move(self.count)
            case _:
                return False
        return True

    @property
    def _most(self) -> int:
        return max(0, self.count - self.height)
