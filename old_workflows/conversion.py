"""A conversion under way: the nodes as they become, and what was lost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from .graph import GAP, PRIMITIVE, REROUTE, TITLE, Graph, Node, Output, pair_of, position
from .old_nodes import is_old, row_of

PIPES = ("ToBasicPipe", "EditBasicPipe")
ROUTES = (REROUTE, PRIMITIVE, *PIPES)
OFF = "it is switched off, and left out."
# Returns what gives an old node's outputs now, with None where nothing does; or None, which leaves the node as it is.
Rule = Callable[["Conversion", Node], Sequence[Node | Output | None] | None]


class Conversion:
    """Rules read old nodes, which stay as they were, and place new ones, whose links may begin at old outputs: `finish`
    lets them begin at what gives these now.

    A link into an old node that no rule has asked for is reported.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self.old = list(graph.nodes.values())
        self.leads_to = consumers(self.old)
        self.outputs: dict[Node, list[Output | None]] = {}
        self.placed: dict[Node, Node] = {}
        self.said: dict[Node, list[str]] = defaultdict(list)
        self.without_frames: list[Node] = []
        """Prompt Schedules that take the number of frames of their sampler's latent."""

    def convert(self, node: Node, rule: Rule) -> None:
        outputs = rule(self, node)
        if outputs is None:
            return
        node.is_read = True
        self.outputs[node] = [Output(output) if isinstance(output, Node) else output for output in outputs]
        if node not in self.placed:
            del self.graph.nodes[node.id]

    def finish(self) -> None:
        self._report_links()
        for node in self.graph.nodes.values():
            links = {name: self._today(link, node) for name, link in node.links.items()}
            node.links = {name: link for name, link in links.items() if link is not None}
        self._connect_frames()
        self._remove_unused()

    def _today(self, link: Output, target: Node) -> Output | None:
        """Return what takes the place of an old output, which another old node may have handed on."""
        source: Output | None = link
        for _ in self.old:
            if source is None or self.graph.nodes.get(source.node.id) is source.node:
                break
            outputs, before = self.outputs.get(source.node, []), source
            source = outputs[source.index] if source.index < len(outputs) else None
            if source is None and not is_old(target.type) and target.type not in ROUTES:
                name = before.node.outputs[before.index]["name"]
                self.say(before.node, f"its output {name} has no counterpart; what it led to is not connected.")
        return source if source in (None, link) else Output(source.node, source.index, link.link)

    def _connect_frames(self) -> None:
        """Connect the latent that the sampler behind a Prompt Schedule begins with: its number of frames counts."""
        leads_to = consumers(self.graph.nodes.values())

        def conditioned(node: Node) -> Iterator[Node]:
            types = ("CONDITIONING", "*", "GUIDER")
            return (target for target, link in leads_to[node] if (link.link_type or link.type) in types)

        for schedule in self.without_frames:
            latents = (
                node.links[name]
                for node in reachable(schedule, conditioned)
                for name in ("latent_image", "latent", "latent_opt", "optional_latent")
                if name in node.links
            )
            usable = (latent for latent in latents if schedule not in (latent.node, *behind(latent.node)))
            if "latent" not in schedule.links and (latent := next(usable, None)) is not None:
                schedule.links["latent"] = Output(latent.node, latent.index)

    def _remove_unused(self) -> None:
        """Remove nodes that only set up what has been rewritten, with the Reroutes and Primitives that led to it."""
        nodes = self.graph.nodes
        ends = {
            output.node
            for old, outputs in self.outputs.items()
            if not self.leads_to[old]
            for output in outputs[:1]
            if output
        }
        while True:
            used = ends | {link.node for node in nodes.values() for link in node.links.values()}
            gone = [node for node in nodes.values() if node not in used and self._removable(node)]
            for node in gone:
                del nodes[node.id]
            if not gone:
                return

    def _removable(self, node: Node) -> bool:
        if node.type in ROUTES:
            return bool(self.leads_to[node])
        return bool(node.outputs) and (node.is_new or is_old(node.type))

    # Reading old nodes

    def chain(self, node: Node, name: str, inputs: Mapping[str, str]) -> list[Node]:
        """Return the old nodes behind an input that are chained, nearest first.

        `inputs` says by which input a node of each type leads on; the chain ends at a node of another type.
        """
        nodes, end = trail(node, name, inputs)
        if end is not None:
            self.say(node, f"{name}, from {described(end.node)}, is left out.")
        return nodes

    def working(self, node: Node, name: str) -> Output | None:
        """Return what leads into an old node's input, unless that is switched off."""
        source = node.source(name)
        if source is None or not source.node.is_off(node):
            return source
        self.say(source.node, OFF)
        return None

    # Placing new nodes

    def place(self, old: Node, kind: str, values: Mapping[str, Any] = {}, inputs: str = "") -> Node:
        """Put a node of type `kind` where the old one was; one that is used a second time gets a copy below.

        `inputs` names old inputs, with their new names in front ("amount=multiply_by image"): each brings its link, and
        its value unless `values` holds that.
        """
        if old in self.placed:
            node = self.beside(self.placed[old], kind)
        else:
            node = self.placed[old] = self.graph.new_node(kind, None, old)
        return brought(node, old, values, inputs)

    def beside(
        self, near: Node, kind: str, values: Mapping[str, Any] = {}, inputs: str = "", left: bool = False
    ) -> Node:
        """Add a node below another one, or to the left of it."""
        x, y = position(near)
        at = (x - 300 - GAP, y) if left else (x, y + pair_of(near.page["size"])[1] + GAP + TITLE)
        return brought(self.graph.new_node(kind, at, near), near, values, inputs)

    # Reporting

    def say(self, node: Node, sentence: str) -> None:
        if sentence not in self.said[node]:
            self.said[node].append(sentence)

    def report(self) -> list[str]:
        return [f"{called(node)}: {sentence}" for node in self.old for sentence in self.said[node]]

    def _report_links(self) -> None:
        """Say of each link into a converted node that leads nowhere now."""
        for node in self.old:
            if not node.is_read or not is_old(node.type) or OFF in self.said[node]:
                continue
            for name, link in node.links.items():
                entry = row_of(node.type).input(name)
                if (entry.name if entry else name) in node.followed or name in node.followed:
                    continue
                if entry and entry.is_widget and not entry.unused:
                    self.say(node, f"{entry.name} is connected, and keeps the value that it shows instead.")
                else:
                    source = node.source(name) or link
                    name, instead = (entry.name, entry.instead) if entry else (name, "")
                    self.say(node, f"{name}, from {described(source.node)}, is left out{instead and f': {instead}'}.")


def consumers(nodes: Iterable[Node]) -> dict[Node, list[tuple[Node, Output]]]:
    """Return what the outputs of each node lead to."""
    leading = defaultdict(list)
    for node in nodes:
        for link in node.links.values():
            leading[link.node].append((node, link))
    return leading


def reachable(start: Node, following: Callable[[Node], Iterable[Node]]) -> Iterator[Node]:
    """Yield the nodes behind or before a node, nearest first and each once."""
    waiting, seen = [start], {start}
    while waiting:
        for node in following(waiting.pop(0)):
            if node not in seen:
                yield node
                seen.add(node)
                waiting.append(node)


def behind(node: Node) -> Iterator[Node]:
    return reachable(node, lambda node: (link.node for link in node.links.values()))


def brought(new: Node, old: Node, values: Mapping[str, Any], inputs: str) -> Node:
    """Return a new node with `values`, and values and links of the old node's inputs."""
    new.set(values)
    for entry in inputs.split():
        name, _, old_name = entry.partition("=")
        new.set({name: None if name in values else old.values.get(old_name or name)})
        new.set({name: old[old_name or name]})
    return new


def trail(node: Node, name: str, inputs: Mapping[str, str]) -> tuple[list[Node], Output | None]:
    """Return the nodes of a `chain`, and what leads into the last of them."""
    nodes, source = [], node.source(name)
    while source is not None and source.node.type in inputs and source.node not in nodes:
        nodes.append(source.node)
        source = source.node.source(inputs[source.node.type])
    return nodes, source


def described(node: Node) -> str:
    """Return the name of an old node that is left out, with its values and those of the nodes that set it up."""
    nodes = [node, *(entry for entry in behind(node) if is_old(entry.type))]
    return ", ".join(called(entry) + with_values(entry) for entry in nodes if entry is node or with_values(entry))


def called(node: Node) -> str:
    return f"{node.type} (node {node.id})"


def with_values(node: Node) -> str:
    saved = node.page.get("widgets_values") or []
    values = [value for value in (saved.values() if isinstance(saved, dict) else saved) if value not in (None, "")]
    return f" with {', '.join(str(value)[:80] for value in values)}" if values else ""


def within(low: float, value: Any, high: float) -> Any:
    return max(low, min(value, high))
