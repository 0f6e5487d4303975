// The surface itself: nodes and wires under the hand, drawn from the design and told back to it.

import {
  Background,
  BackgroundVariant,
  Panel,
  ReactFlow,
  applyEdgeChanges,
  applyNodeChanges,
  useConnection,
  useReactFlow,
} from "@xyflow/react";
import type {
  Connection,
  Edge,
  EdgeChange,
  FinalConnectionState,
  HandleType,
  NodeChange,
  OnConnectStartParams,
  OnSelectionChangeParams,
  Viewport as FlowViewport,
} from "@xyflow/react";
import "@xyflow/react/dist/base.css";
import type { DragEvent, JSX } from "react";
import { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "react";
import type { Drawing, Edit, Key } from "../graph/drawing";
import { SELF_HANDLES, handlesOf, parseHandleId } from "../graph/handles";
import type { End } from "../graph/handles";
import { nodeElementId, parseNodeElementId, parseWireElementId, wireElementId } from "../graph/ids";
import { GRID, isAnyInSight } from "../graph/layout";
import { refusal } from "../graph/rules";
import type { Refusal } from "../graph/rules";
import { useScopeRefusal } from "../rpc";
import { useCanvas, useDesign } from "./context";
import type { Selection } from "./context";
import type { Ends } from "./connect-dialog";
import { FIT } from "./editing";
import { flowEdges, flowNodes } from "./flow";
import type { FlowNode, WireEdge } from "./flow";
import { OtherDrawing, Overview, Tools } from "./overlays";
import { DRAGGED_SERVICE } from "./palette";
import type { Offer } from "./palette";
import { SelfNode, ServiceNode } from "./service-node";
import { Wire } from "./wire";

const NODE_TYPES = { service: ServiceNode, self: SelfNode };
const EDGE_TYPES = { wire: Wire };
const CONNECTION_RADIUS = 24;
const SNAP: [number, number] = [GRID, GRID];
const CHOOSE_MORE_KEYS = ["Control", "Meta"];
const LABELS = {
  "node.a11yDescription.default":
    "Press Enter to choose the node, arrow keys to move it once chosen, Delete to remove it, Escape to let go.",
  "edge.a11yDescription.default": "Press Enter to choose the wire, Delete to remove it, Escape to let go.",
};

export interface SurfaceProps {
  onDropService: (offer: Offer, at: { x: number; y: number }) => void;
  onConnect: (from: End, to: End) => void;
  /** A wire was let go where it cannot end. */
  onRefuse: (refused: Refusal) => void;
  /** A wire was let go on a node with several ends that fit. */
  onAskEnds: (ends: Ends) => void;
}

export function Surface({ onDropService, onConnect, onRefuse, onAskEnds }: SurfaceProps): JSX.Element {
  const { design, selection, drawn, labels } = useCanvas();
  const { drawing, snapToGrid } = useDesign();
  const mayDraw = useScopeRefusal()("operate") === null;
  const flow = useReactFlow<FlowNode, WireEdge>();
  const [nodes, setNodes] = useState<FlowNode[]>(() => flowNodes([], drawing));
  const [edges, setEdges] = useState<WireEdge[]>(() => flowEdges([], drawing));
  const latest = useRef(nodes);
  const redrawn = useRef<Key | null>(null);
  const dragged = useRef(false);
  const first = useRef(true);
  const wrapper = useRef<HTMLDivElement>(null);
  const begin = useMemo(() => startViewport(design.viewport), [design]);

  useLayoutEffect(() => {
    labels.set(wrapper.current?.querySelector(".react-flow__edgelabel-renderer") ?? null);
    return () => labels.set(null);
  }, [labels]);

  useLayoutEffect(() => {
    if (first.current) {
      first.current = false;
      return;
    }
    latest.current = flowNodes(latest.current, drawing);
    setNodes(latest.current);
    setEdges((before) => flowEdges(before, drawing));
  }, [drawing]);

  // ------------------------------------------------------------ moving

  const onNodesChange = useCallback(
    (changes: NodeChange<FlowNode>[]) => {
      const wanted = changes.filter(({ type }) => type !== "remove");
      latest.current = applyNodeChanges(wanted, latest.current);
      setNodes(latest.current);
      if (wanted.some((change) => change.type === "position" && change.dragging)) dragged.current = true;
      const moved = wanted.flatMap((change) => (change.type === "position" && change.dragging === false ? [change.id] : []));
      if (moved.length === 0) return;
      const edits = moves(design.drawing, latest.current, new Set(moved));
      const label = edits.length === 1 ? "Move a node" : `Move ${edits.length} nodes`;
      // Pushes by the arrow keys are one step together, each drag is one by itself.
      if (edits.length > 0) design.edit(label, edits, dragged.current ? "" : `push:${moved.join(" ")}`);
      dragged.current = false;
    },
    [design],
  );

  const onEdgesChange = useCallback((changes: EdgeChange<WireEdge>[]) => {
    setEdges((before) => applyEdgeChanges(changes.filter(({ type }) => type !== "remove"), before));
  }, []);

  const onSelectionChange = useCallback(
    (chosen: OnSelectionChangeParams<FlowNode, WireEdge>) => {
      const refs = chosen.nodes.map(({ id }) => parseNodeElementId(id));
      const next: Selection = {
        nodes: refs.filter((ref): ref is Key => ref !== null),
        wires: chosen.edges.map(({ id }) => parseWireElementId(id)),
        selfPeer: refs.includes(null),
      };
      if (!isSameSelection(selection.get(), next)) selection.set(next);
    },
    [selection],
  );

  // ------------------------------------------------------------ drawing wires

  const drawingForWire = useCallback((): Drawing => {
    const current = design.drawing;
    if (redrawn.current === null) return current;
    const wires = new Map(current.wires);
    wires.delete(redrawn.current);
    return { ...current, wires };
  }, [design]);

  const isValidConnection = useCallback(
    (connection: Connection | Edge) => {
      const [from, to] = endsOfConnection(connection);
      return refusal(drawingForWire(), from, to) === null;
    },
    [drawingForWire],
  );

  const onConnectStart = useCallback(
    (_event: unknown, { nodeId, handleId }: OnConnectStartParams) => {
      if (nodeId === null || handleId === null) return;
      const from = endOf(nodeId, handleId);
      const current = drawingForWire();
      drawn.set({
        from,
        allows: (end) => (from.side === "out" ? refusal(current, from, end) : refusal(current, end, from)) === null,
      });
    },
    [drawn, drawingForWire],
  );

  const onConnectEnd = useCallback(
    (event: MouseEvent | TouchEvent, state: FinalConnectionState) => {
      const from = drawn.get()?.from;
      drawn.set(null);
      if (!from || state.isValid || redrawn.current !== null) return;
      const current = drawingForWire();
      const judge = (end: End): Refusal | null =>
        from.side === "out" ? refusal(current, from, end) : refusal(current, end, from);
      if (state.toHandle) {
        const refused = judge(endOf(state.toHandle.nodeId, state.toHandle.id ?? ""));
        if (refused) onRefuse(refused);
        return;
      }
      const id = nodeUnder(event);
      if (id === null) return;
      // An end that is only pressed is no wire; one that is drawn to its own card is told why it is none.
      const far = state.from && state.to ? Math.hypot(state.from.x - state.to.x, state.from.y - state.to.y) : 0;
      if (id === nodeElementId(from.node) && far < CONNECTION_RADIUS) return;
      // Let go on a node, not on one of its ends: take the end that fits, ask where several do.
      const ends = endsAt(current, id).filter(({ side }) => side !== from.side);
      const fitting = ends.filter((end) => judge(end) === null);
      const only = fitting.length === 1 ? fitting[0] : undefined;
      if (only) onConnect(...(from.side === "out" ? ([from, only] as const) : ([only, from] as const)));
      else if (fitting.length > 1) {
        const node = parseNodeElementId(id);
        const other = fitting[0];
        onAskEnds(from.side === "out" ? { from, to: { node, ...other } } : { from: { node, ...other }, to: from });
      } else {
        const ref = parseNodeElementId(id);
        const refused = judge(ends[0] ?? { node: ref, side: from.side === "out" ? "in" : "out", interface_type: "STDIN", path: "" });
        if (refused) onRefuse(refused);
      }
    },
    [drawn, drawingForWire, onConnect, onRefuse, onAskEnds],
  );

  const connect = useCallback(
    (connection: Connection) => {
      const [from, to] = endsOfConnection(connection);
      onConnect(from, to);
    },
    [onConnect],
  );

  const onReconnectStart = useCallback((_event: unknown, edge: WireEdge, _type: HandleType) => {
    redrawn.current = parseWireElementId(edge.id);
  }, []);

  const onReconnect = useCallback(
    (edge: WireEdge, connection: Connection) => {
      const key = parseWireElementId(edge.id);
      const [from, to] = endsOfConnection(connection);
      const changes = {
        from: from.node,
        from_interface_type: from.interface_type,
        from_interface_path: from.path,
        to: to.node,
        to_interface_type: to.interface_type,
        to_interface_path: to.path,
        ...(from.node === null ? {} : { source_path: null }),
      };
      design.edit("Redraw a wire", [{ kind: "change_wire", key, changes }]);
    },
    [design],
  );

  const onReconnectEnd = useCallback(
    (_event: unknown, _edge: WireEdge, _type: HandleType, state: FinalConnectionState) => {
      const current = drawingForWire();
      redrawn.current = null;
      drawn.set(null);
      if (state.isValid || !state.toHandle || !state.fromHandle) return;
      const ends = [state.fromHandle, state.toHandle].map((handle) => endOf(handle.nodeId, handle.id ?? "")) as [End, End];
      const [from, to] = state.fromHandle.type === "source" ? ends : [ends[1], ends[0]];
      const refused = refusal(current, from, to);
      if (refused) onRefuse(refused);
    },
    [drawn, drawingForWire, onRefuse],
  );

  // ------------------------------------------------------------ the palette's services

  const onDragOver = useCallback((event: DragEvent) => {
    if (!event.dataTransfer.types.includes(DRAGGED_SERVICE)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
  }, []);

  const onDrop = useCallback(
    (event: DragEvent) => {
      const text = event.dataTransfer.getData(DRAGGED_SERVICE);
      if (!text) return;
      event.preventDefault();
      const at = flow.screenToFlowPosition({ x: event.clientX, y: event.clientY }, { snapToGrid: false });
      onDropService(JSON.parse(text) as Offer, at);
    },
    [flow, onDropService],
  );

  const onInit = useCallback(() => {
    // Where a larger window has looked there may be nothing in this one.
    const { clientWidth: width = 0, clientHeight: height = 0 } = wrapper.current ?? {};
    if (begin && !isAnyInSight(design.drawing, begin, { width, height })) void flow.fitView(FIT);
  }, [begin, design, flow]);

  const onMoveEnd = useCallback(
    (_event: unknown, { x, y, zoom }: FlowViewport) => design.keepViewport({ x, y, zoom }),
    [design],
  );

  return (
    <ReactFlow<FlowNode, WireEdge>
      ref={wrapper}
      className="surface"
      aria-label="Canvas"
      nodes={nodes}
      edges={edges}
      nodeTypes={NODE_TYPES}
      edgeTypes={EDGE_TYPES}
      {...(begin ? { defaultViewport: begin } : { fitView: true, fitViewOptions: FIT })}
      minZoom={0.5}
      maxZoom={2}
      snapToGrid={snapToGrid}
      snapGrid={SNAP}
      connectionRadius={CONNECTION_RADIUS}
      nodesDraggable={mayDraw}
      nodesConnectable={mayDraw}
      edgesReconnectable={mayDraw}
      deleteKeyCode={null}
      multiSelectionKeyCode={CHOOSE_MORE_KEYS}
      elevateNodesOnSelect={false}
      elevateEdgesOnSelect
      ariaLabelConfig={LABELS}
      isValidConnection={isValidConnection}
      onNodesChange={onNodesChange}
      onEdgesChange={onEdgesChange}
      onSelectionChange={onSelectionChange}
      onConnect={connect}
      onConnectStart={onConnectStart}
      onConnectEnd={onConnectEnd}
      onReconnectStart={onReconnectStart}
      onReconnect={onReconnect}
      onReconnectEnd={onReconnectEnd}
      onDragOver={onDragOver}
      onDrop={onDrop}
      onMoveEnd={onMoveEnd}
      onInit={onInit}
    >
      <Background variant={BackgroundVariant.Dots} gap={GRID} size={1.5} />
      <OtherDrawing />
      <Refused drawingForWire={drawingForWire} />
      <Tools snapToGrid={snapToGrid} />
      <Overview />
      <Revealing />
    </ReactFlow>
  );
}

/** While a wire is held over an end that it cannot be joined to: why. */
function Refused({ drawingForWire }: { drawingForWire: () => Drawing }): JSX.Element | null {
  const held = useConnection((connection) => {
    if (!connection.inProgress || !connection.toHandle || connection.isValid !== false) return "";
    const { fromHandle, toHandle } = connection;
    return JSON.stringify([fromHandle.nodeId, fromHandle.id, fromHandle.type, toHandle.nodeId, toHandle.id]);
  });
  if (held === "") return null;
  const [fromNode, fromId, type, toNode, toId] = JSON.parse(held) as [string, string, HandleType, string, string];
  const ends = [endOf(fromNode, fromId), endOf(toNode, toId)] as const;
  const refused = type === "source" ? refusal(drawingForWire(), ends[0], ends[1]) : refusal(drawingForWire(), ends[1], ends[0]);
  if (!refused) return null;
  return (
    <Panel position="top-center" className="refused">
      <div role="status">{refused.message}</div>
    </Panel>
  );
}

/** Brings into sight what a list leads to, and chooses it. */
function Revealing(): null {
  const { wanted, selection } = useCanvas();
  const flow = useReactFlow<FlowNode, WireEdge>();
  useEffect(
    () =>
      wanted.subscribe(() => {
        const keys = wanted.get();
        if (!keys) return;
        wanted.set(null);
        // At once: the next key may already be meant for what is chosen now.
        const next: Selection = { nodes: keys.nodes ?? [], wires: keys.wires ?? [], selfPeer: false };
        if (!isSameSelection(selection.get(), next)) selection.set(next);
        const nodeIds = new Set((keys.nodes ?? []).map(nodeElementId));
        const wireIds = new Set((keys.wires ?? []).map(wireElementId));
        // New nodes are on the canvas at the next frame.
        requestAnimationFrame(() => {
          flow.setNodes((all) => all.map((node) => choose(node, nodeIds.has(node.id))));
          flow.setEdges((all) => all.map((edge) => choose(edge, wireIds.has(edge.id))));
          if (!keys.intoSight) return;
          const ends = flow.getEdges().filter(({ id }) => wireIds.has(id)).flatMap(({ source, target }) => [source, target]);
          const ids = [...nodeIds, ...ends];
          if (ids.length > 0) void flow.fitView({ ...FIT, nodes: ids.map((id) => ({ id })), duration: 0 });
        });
      }),
    [flow, wanted, selection],
  );
  return null;
}

function choose<T extends { selected?: boolean }>(element: T, selected: boolean): T {
  return (element.selected ?? false) === selected ? element : { ...element, selected };
}

function moves(drawing: Drawing, nodes: readonly FlowNode[], ids: ReadonlySet<string>): Edit[] {
  return nodes.flatMap((node): Edit[] => {
    if (!ids.has(node.id)) return [];
    const key = parseNodeElementId(node.id);
    const at = { x: Math.round(node.position.x), y: Math.round(node.position.y) };
    if (key === null) {
      const { x, y } = drawing.selfPeer;
      return x === at.x && y === at.y ? [] : [{ kind: "place_self_peer", at }];
    }
    const stored = drawing.nodes.get(key);
    if (!stored || (stored.gui_x === at.x && stored.gui_y === at.y)) return [];
    return [{ kind: "change_node", key, changes: { gui_x: at.x, gui_y: at.y } }];
  });
}

function startViewport(kept: { x: number; y: number; zoom: number } | null): FlowViewport | null {
  const isUntouched = !kept || (kept.x === 0 && kept.y === 0 && kept.zoom === 1);
  return isUntouched ? null : kept;
}

function endOf(nodeId: string, handleId: string): End {
  return { node: parseNodeElementId(nodeId), ...parseHandleId(handleId) };
}

function endsOfConnection(connection: Connection | Edge): [End, End] {
  return [
    endOf(connection.source, connection.sourceHandle ?? ""),
    endOf(connection.target, connection.targetHandle ?? ""),
  ];
}

function endsAt(drawing: Drawing, nodeId: string): End[] {
  const ref = parseNodeElementId(nodeId);
  const node = ref === null ? undefined : drawing.nodes.get(ref);
  const handles = ref === null ? SELF_HANDLES : node ? handlesOf(node) : [];
  return handles.map(({ side, interface_type, path }) => ({ node: ref, side, interface_type, path }));
}

function nodeUnder(event: MouseEvent | TouchEvent): string | null {
  const point = "changedTouches" in event ? event.changedTouches[0] : event;
  if (!point) return null;
  const element = document.elementFromPoint(point.clientX, point.clientY)?.closest(".react-flow__node");
  return element?.getAttribute("data-id") ?? null;
}

function isSameSelection(one: Selection, other: Selection): boolean {
  const list = (a: readonly Key[], b: readonly Key[]): boolean => a.length === b.length && a.every((key, i) => key === b[i]);
  return one.selfPeer === other.selfPeer && list(one.nodes, other.nodes) && list(one.wires, other.wires);
}

