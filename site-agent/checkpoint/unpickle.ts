// Reads a pickle as data. It knows the instructions that weights need and refuses every other one; names are looked up
// in an allow-list and nothing is ever imported, built or called. Time and memory are bounded by constants, whatever
// the bytes say. Instructions: Lib/pickletools.py of CPython.

import { CheckpointError } from "./checkpoint-error.ts";
import { PickleCursor } from "./pickle-cursor.ts";
import { callGlobal, findGlobal, persistentStorage } from "./pickle-globals.ts";
import { PickleStack } from "./pickle-stack.ts";
import {
  appendTo,
  isKey,
  type PickleStorage,
  type PickleValue,
  pickleDict,
  pickleList,
  pickleTuple,
  setIn,
} from "./pickle-value.ts";

const PROTOCOL_MAX = 5;
export const PICKLE_INSTRUCTIONS_MAX = 4_194_304;
const STOP = 0x2e;

type Instruction = (cursor: PickleCursor, stack: PickleStack) => void;

/** `end` is the position after the pickle. */
export type Unpickled = {
  readonly value: PickleValue;
  readonly storages: ReadonlyMap<string, PickleStorage>;
  readonly end: number;
};

/**
 * One pickle that begins at `start`.
 * @throws CheckpointError checkpoint.pickle.*, checkpoint.view, checkpoint.storage, checkpoint.truncated
 */
export function unpickle(bytes: Uint8Array, start = 0): Unpickled {
  const cursor = new PickleCursor(bytes, start);
  const stack = new PickleStack();
  for (let count = 0; count < PICKLE_INSTRUCTIONS_MAX; count += 1) {
    const opcode = cursor.uint8();
    if (opcode === STOP) {
      return { value: stack.result(), storages: stack.storages, end: cursor.position };
    }
    const instruction = INSTRUCTIONS.get(opcode);
    if (instruction === undefined) {
      throw new CheckpointError(
        "checkpoint.pickle.opcode",
        `0x${opcode.toString(16)} at ${cursor.position - 1}`,
      );
    }
    instruction(cursor, stack);
  }
  throw new CheckpointError("checkpoint.pickle.limit", "instructions");
}

const INSTRUCTIONS: ReadonlyMap<number, Instruction> = new Map<number, Instruction>([
  [0x80, protocol],
  [0x95, frame],
  // Plain values: NONE, NEWTRUE, NEWFALSE, BININT, BININT1, BININT2, LONG1, BINFLOAT.
  [0x4e, (_, stack) => stack.push(null)],
  [0x88, (_, stack) => stack.push(true)],
  [0x89, (_, stack) => stack.push(false)],
  [0x4a, (cursor, stack) => stack.push(cursor.int32())],
  [0x4b, (cursor, stack) => stack.push(cursor.uint8())],
  [0x4d, (cursor, stack) => stack.push(cursor.uint16())],
  [0x8a, (cursor, stack) => stack.push(cursor.long(cursor.uint8()))],
  [0x47, (cursor, stack) => stack.push(cursor.float64())],
  // Text: BINUNICODE, SHORT_BINUNICODE, and BINSTRING and SHORT_BINSTRING of Python 2.
  [0x58, (cursor, stack) => stack.pushNew(cursor.text(cursor.uint32()))],
  [0x8c, (cursor, stack) => stack.pushNew(cursor.text(cursor.uint8()))],
  [0x54, (cursor, stack) => stack.pushNew(cursor.text(cursor.uint32()))],
  [0x55, (cursor, stack) => stack.pushNew(cursor.text(cursor.uint8()))],
  // Containers: MARK, EMPTY_DICT, EMPTY_LIST, EMPTY_TUPLE, TUPLE, TUPLE1, TUPLE2, TUPLE3.
  [0x28, (_, stack) => stack.mark()],
  [0x7d, (_, stack) => stack.pushNew(pickleDict())],
  [0x5d, (_, stack) => stack.pushNew(pickleList())],
  [0x29, (_, stack) => stack.pushNew(pickleTuple([]))],
  [0x74, (_, stack) => stack.pushNew(pickleTuple(stack.popToMark()))],
  [0x85, (_, stack) => tupleOf(stack, 1)],
  [0x86, (_, stack) => tupleOf(stack, 2)],
  [0x87, (_, stack) => tupleOf(stack, 3)],
  // Filling them: APPEND, APPENDS, SETITEM, SETITEMS.
  [0x61, (_, stack) => append(stack, [stack.pop()])],
  [0x65, (_, stack) => append(stack, stack.popToMark())],
  [0x73, setItem],
  [0x75, (_, stack) => setItems(stack, stack.popToMark())],
  // The memo: BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET.
  [0x71, (cursor, stack) => stack.memoise(cursor.uint8())],
  [0x72, (cursor, stack) => stack.memoise(cursor.uint32())],
  [0x94, (_, stack) => stack.memoise()],
  [0x68, (cursor, stack) => stack.recall(cursor.uint8())],
  [0x6a, (cursor, stack) => stack.recall(cursor.uint32())],
  // Names of the allow-list and what is made of them: GLOBAL, STACK_GLOBAL, REDUCE, BUILD, BINPERSID.
  [0x63, (cursor, stack) => stack.push(findGlobal(cursor.line(), cursor.line()))],
  [0x93, stackGlobal],
  [0x52, reduce],
  [0x62, build],
  [0x51, (_, stack) => stack.pushStorage(persistentStorage(stack.pop()))],
]);

function protocol(cursor: PickleCursor): void {
  if (cursor.uint8() > PROTOCOL_MAX) throw new CheckpointError("checkpoint.pickle.opcode", "protocol");
}

/** A frame only announces bytes; it must lie within what is there. */
function frame(cursor: PickleCursor): void {
  if (cursor.uint64() > BigInt(cursor.remaining)) throw new CheckpointError("checkpoint.truncated", "frame");
}

function tupleOf(stack: PickleStack, length: number): void {
  const items = Array.from({ length }, () => stack.pop());
  stack.pushNew(pickleTuple(items.reverse()));
}

function append(stack: PickleStack, items: readonly PickleValue[]): void {
  const list = stack.top();
  if (isKey(list) || list.kind !== "list") throw malformed("append");
  appendTo(list, items);
}

function setItem(_: PickleCursor, stack: PickleStack): void {
  const value = stack.pop();
  setItems(stack, [stack.pop(), value]);
}

function setItems(stack: PickleStack, items: readonly PickleValue[]): void {
  const dict = stack.top();
  if (isKey(dict) || dict.kind !== "dict" || items.length % 2 !== 0) throw malformed("dictionary");
  for (let index = 0; index < items.length; index += 2) {
    setIn(dict, items[index] ?? null, items[index + 1] ?? null);
  }
}

function stackGlobal(_: PickleCursor, stack: PickleStack): void {
  const name = stack.pop();
  const module = stack.pop();
  if (typeof name !== "string" || typeof module !== "string") throw malformed("name");
  stack.push(findGlobal(module, name));
}

function reduce(_: PickleCursor, stack: PickleStack): void {
  const args = stack.pop();
  const made = callGlobal(stack.pop(), args);
  stack.pushNew(made, made.kind === "dict" ? made.entries.size : 0);
}

/** State of an ordered dictionary is PyTorch's `_metadata`, which weights do not need. */
function build(_: PickleCursor, stack: PickleStack): void {
  stack.pop();
  const target = stack.top();
  if (isKey(target) || target.kind !== "dict") throw malformed("state");
}

function malformed(what: string): CheckpointError {
  return new CheckpointError("checkpoint.pickle.malformed", what);
}
