// What can be done to a drawing, each with the words by which it is undone.

import { useReactFlow } from "@xyflow/react";
import type { RefObject } from "react";
import { useCallback } from "react";
import type { Edit, Key } from "../graph/drawing";
import type { End } from "../graph/handles";
import { HEADER_HEIGHT, NODE_WIDTH, arranging, freePlace, roomyPlace } from "../graph/layout";
import { namesOf, refusal } from "../graph/rules";
import type { Refusal } from "../graph/rules";
import { useToasts } from "../parts";
import { RpcError } from "../rpc";
import { copied, pasted } from "./clipboard";
import { useCanvas } from "./context";
import type { Offer } from "./palette";
import type { Value } from "./value";

export const FIT = { padding: 0.05, minZoom: 0.5, maxZoom: 1 };

interface Editing {
  /** Put a service where it was let go, or where `find` finds a place near there. */
  add: (offer: Offer, at: { x: number; y: number }, find?: typeof freePlace) => void;
  /** Put it where people look. */
  addInSight: (offer: Offer) => void;
  connect: (from: End, to: End) => void;
  refuse: (why: Refusal) => void;
  remove: (nodes: readonly Key[], wires: readonly Key[]) => void;
  /** Says whether the text was one of ours. */
  paste: (text: string) => boolean;
  duplicate: () => void;
  arrange: () => void;
  undo: () => void;
  redo: () => void;
}

/** `root` is the page, which gets the focus where what had it is gone; `quiet` is set by what adds: no list is to open for it. */
export function useEditing(root: RefObject<HTMLDivElement | null>, news: Value<string>, quiet: { current: boolean }): Editing {
  const { design, selection, wanted } = useCanvas();
  const toasts = useToasts();
  const flow = useReactFlow();

  const add = useCallback(
    (offer: Offer, at: { x: number; y: number }, find = freePlace) => {
      const key = design.nodeKeys.fresh();
      const place = find(design.drawing, { x: at.x - NODE_WIDTH / 2, y: at.y - HEADER_HEIGHT / 2 }, offer);
      design.edit(`Add ${offer.name}`, [
        {
          kind: "add_node",
          node: {
            key,
            service_id: offer.service_id,
            peer_id: offer.peer_id,
            name: "",
            service_name: offer.name,
            service_type: offer.service_type,
            order: design.drawing.nodes.size + 1,
            gui_x: place.x,
            gui_y: place.y,
            interfaces: offer.interfaces,
            entrypoint: null,
            cmd: null,
            pricing_amount: offer.pricing_amount,
            pricing_type: offer.pricing_type,
            service_revision: offer.revision,
            pin: false,
          },
        },
      ]);
      quiet.current = true;
      wanted.set({ nodes: [key] });
    },
    [design, wanted, quiet],
  );

  const addInSight = useCallback(
    (offer: Offer) => {
      const box = root.current?.querySelector(".surface")?.getBoundingClientRect();
      const middle = box
        ? { x: box.left + box.width / 2, y: box.top + box.height / 3 }
        : { x: innerWidth / 2, y: innerHeight / 2 };
      add(offer, flow.screenToFlowPosition(middle, { snapToGrid: false }), roomyPlace);
      news.set(`${offer.name} is on the canvas`);
    },
    [add, flow, news, root],
  );

  const connect = useCallback(
    (from: End, to: End) => {
      const why = refusal(design.drawing, from, to);
      if (why) {
        toasts.fail(notConnected(why));
        return;
      }
      const key = design.wireKeys.fresh();
      design.edit("Connect", [
        {
          kind: "add_wire",
          wire: {
            key,
            from: from.node,
            from_interface_type: from.interface_type,
            from_interface_path: from.path,
            to: to.node,
            to_interface_type: to.interface_type,
            to_interface_path: to.path,
            destination_file_name: null,
            include: [],
            source_path: null,
          },
        },
      ]);
    },
    [design, toasts],
  );

  const refuse = useCallback((why: Refusal) => toasts.fail(notConnected(why)), [toasts]);

  const remove = useCallback(
    (nodes: readonly Key[], wires: readonly Key[]) => {
      const edits: Edit[] = [
        ...wires.map((key): Edit => ({ kind: "remove_wire", key })),
        ...nodes.map((key): Edit => ({ kind: "remove_node", key })),
      ];
      if (edits.length === 0) return;
      const names = namesOf(design.drawing.nodes);
      const label =
        nodes.length === 1
          ? `Delete ${names.get(nodes[0] as Key) ?? "a node"}`
          : nodes.length > 1
            ? `Delete ${nodes.length} nodes`
            : wires.length === 1
              ? "Delete a wire"
              : `Delete ${wires.length} wires`;
      design.edit(label, edits);
      // What had the focus is gone: the keys go on working.
      root.current?.focus({ preventScroll: true });
    },
    [design, root],
  );

  const paste = useCallback(
    (text: string): boolean => {
      const found = pasted(text, design.drawing, design.nodeKeys, design.wireKeys);
      if (!found) return false;
      design.edit(found.keys.length === 1 ? "Paste a node" : `Paste ${found.keys.length} nodes`, found.edits);
      wanted.set({ nodes: found.keys });
      return true;
    },
    [design, wanted],
  );

  const duplicate = useCallback(() => {
    const text = copied(design.drawing, selection.get().nodes);
    if (text) paste(text);
  }, [design, selection, paste]);

  const arrange = useCallback(() => {
    design.edit("Arrange", arranging(design.drawing));
    requestAnimationFrame(() => void flow.fitView(FIT));
  }, [design, flow]);

  const undo = useCallback(() => {
    const label = design.undo();
    if (label) news.set(`Undone: ${label}`);
  }, [design, news]);
  const redo = useCallback(() => {
    const label = design.redo();
    if (label) news.set(`Done again: ${label}`);
  }, [design, news]);

  return { add, addInSight, connect, refuse, remove, paste, duplicate, arrange, undo, redo };
}

function notConnected({ check, message }: Refusal): RpcError {
  return new RpcError(1100, message, { error: "VALIDATION_FAILED", hint: "Nothing was connected.", check });
}
