// A thread that computes parts of kernels: it waits for its slot to be asked, calls the kernel on the shared memory, and
// says so. It ends with the process. It is JavaScript because a thread of Node 20 has no loader for anything else, and
// gets everything that it needs from kernel-threads.ts (`WorkerTask`).

import { parentPort, workerData } from "node:worker_threads";

/** Looks at its slot this often, some tenths of a millisecond, before it sleeps: waking takes longer than a small part. */
const LOOKS_MAX = 20_000;

const { modules, memory, kernels, slot, places, states } = workerData;
const { integers, arguments: given } = slot;
const instances = modules.map((module) => new WebAssembly.Instance(module, { env: { memory } }));
const exported = Object.assign({}, ...instances.map((instance) => instance.exports));
const functions = kernels.map((name) => exported[name]);

const stateNow = () => Atomics.load(integers, places.state);

function answer(state) {
  Atomics.store(integers, places.state, state);
  Atomics.notify(integers, places.state);
}

answer(states.idle);
parentPort.postMessage("started");
for (;;) {
  let looks = 0;
  for (let state = stateNow(); state !== states.asked; state = stateNow()) {
    looks += 1;
    if (looks > LOOKS_MAX) Atomics.wait(integers, places.state, state);
  }
  try {
    functions[integers[places.kernel]](...given.subarray(0, integers[places.count]));
    answer(states.idle);
  } catch {
    answer(states.failed);
  }
}
