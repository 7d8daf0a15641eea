"""An XMLTV file as a stream of its ``channel`` and ``programme`` elements, safe on hostile input.

Expat is driven directly instead of through ``ElementTree.iterparse``: only so can a reader name
line and column of every element, refuse a document type with declarations before one entity is
expanded ("billion laughs", external files), and bound names, depth and length. Memory is constant:
one block of input and the elements that end in it. `DOCTYPE tv SYSTEM "xmltv.dtd"` is common
and allowed; the DTD is never fetched.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

from couchside.device.guide.files import DAMAGE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from xml.parsers.expat import XMLParserType

BLOCK_BYTES = 64 * 1024
FILE_BYTES = 512 * 1024 * 1024
"""Decompressed: ten times a national guide of two weeks; ends a gzip bomb."""
ELEMENT_CHARACTERS = 64 * 1024
"""Text and attributes of one programme."""
ELEMENT_COST = 64
"""What an empty element counts for, so that a million of them don't fit into one programme."""
TOKEN_BYTES = 1024 * 1024
"""Longest tag or comment: expat must hold it whole, and scans it again with every block."""
DEPTH = 16
"""The DTD nests five deep: tv, programme, credits, actor, image."""
NAMES = 1000
"""Different names of elements and attributes (the DTD has about 100); expat keeps each one."""


class XmlBreakError(Exception):
    """The document can't be read further; ``begun`` tells whether a ``tv`` element had opened."""

    def __init__(self, what: str, *, line: int, column: int, begun: bool) -> None:
        super().__init__(what)
        self.line = line
        self.column = column
        self.begun = begun


@dataclass(slots=True)
class Element:
    """An XML element with what it holds."""

    tag: str
    attributes: dict[str, str]
    line: int
    """Where it opens, from 1."""
    text: str = ""
    """Its own character data, without that of its children."""
    children: list[Element] = field(default_factory=list)
    fault: str | None = None
    """Why its content was dropped, for an element that breaks a bound."""

    def all(self, tag: str) -> Iterator[Element]:
        """Its children of that name, in file order."""
        return (child for child in self.children if child.tag == tag)

    def texts(self, tag: str) -> list[str]:
        """Text of its children of that name: white space collapsed, empty ones left out."""
        found = (" ".join(child.text.split()) for child in self.all(tag))
        return [text for text in found if text]


def elements(file: BinaryIO) -> Iterator[Element]:
    """The elements directly below ``tv``, in file order.

    Raises:
        XmlBreakError: after the last element before the break.
    """
    from xml.parsers import expat  # noqa: PLC0415 - memory on a TV is a budget

    builder = _Builder(expat.ParserCreate(intern={}))
    parser, fed, more = builder.parser, 0, True
    while more:
        fault = None
        try:
            block = file.read(BLOCK_BYTES)
            more, fed = bool(block), fed + len(block)
            parser.Parse(block, not more)
            builder.bound(fed)
        except expat.ExpatError as error:
            fault = builder.broken(expat.ErrorString(error.code), error.lineno, error.offset)
        except (LookupError, ValueError) as error:  # an encoding that Python lacks or can't map
            fault = builder.broken(f"its encoding can't be read: {error}")
        except DAMAGE as error:
            fault = builder.broken(f"the file is damaged: {error}")
        except XmlBreakError as error:
            fault = error
        yield from builder.take()
        if fault:
            raise fault


class _Builder:
    """Expat's callbacks; builds the elements below ``tv`` and holds the bounds."""

    def __init__(self, parser: XMLParserType) -> None:
        self.parser = parser
        self._done: list[Element] = []
        self._path: list[Element] = []  # from a child of tv to the innermost open element
        self._depth = 0
        self._length = 0  # of the open child of tv
        self._begun = False
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.SkippedEntityHandler = self._skipped

    def take(self) -> list[Element]:
        """The elements that ended since the last call."""
        done, self._done = self._done, []
        return done

    def broken(
        self, what: str, line: int | None = None, offset: int | None = None
    ) -> XmlBreakError:
        """The error for this place, or for the one given (line from 1, offset from 0)."""
        return XmlBreakError(
            what,
            line=self.parser.CurrentLineNumber if line is None else line,
            column=1 + (self.parser.CurrentColumnNumber if offset is None else offset),
            begun=self._begun,
        )

    def bound(self, fed: int) -> None:
        """Check what grows with the input: bytes in all, and bytes of an unfinished token."""
        if fed > FILE_BYTES:
            raise self.broken(f"the file holds more than {FILE_BYTES} bytes")
        if fed - max(self.parser.CurrentByteIndex, 0) > TOKEN_BYTES:
            raise self.broken(f"a tag or comment is longer than {TOKEN_BYTES} bytes")

    def _doctype(self, _name: str, _system: str | None, _public: str | None, subset: int) -> None:
        if subset:
            raise self.broken("its document type declares entities or defaults, which is refused")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > DEPTH:
            raise self.broken(f"elements are nested more than {DEPTH} deep")
        if len(self.parser.intern) > NAMES:
            raise self.broken(f"more than {NAMES} different names of elements and attributes")
        if self._depth == 1:
            if tag != "tv":
                raise self.broken(f"the outermost element is <{tag:.40}>, not <tv>")
            self._begun = True
            return
        element = Element(tag, attributes, self.parser.CurrentLineNumber)
        if self._path:
            self._path[-1].children.append(element)
        self._path.append(element)
        self._grow(ELEMENT_COST + sum(map(len, attributes.values())))

    def _end(self, _tag: str) -> None:
        self._depth -= 1
        if self._path:
            element = self._path.pop()
            if not self._path:
                self._done.append(element)
                self._length = 0

    def _text(self, text: str) -> None:
        if self._path and not self._path[0].fault:
            self._path[-1].text += text
            self._grow(len(text))

    def _skipped(self, name: str, _is_parameter: bool) -> None:
        if self._path:
            self._fault(f"uses &{name:.40};, which XML does not define")

    def _grow(self, characters: int) -> None:
        self._length += characters
        if self._length > ELEMENT_CHARACTERS:
            self._fault(f"is longer than {ELEMENT_CHARACTERS} characters")

    def _fault(self, what: str) -> None:
        self._path[0].fault = self._path[0].fault or what
        for element in self._path:
            element.children.clear()
            element.text = ""
