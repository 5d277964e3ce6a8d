import { existsSync } from "node:fs";
import t from "tap";
import { compareGradients, computedOn } from "../../test/support/gradient-comparison.ts";
import { findRecipe } from "../recipes/registry.ts";
import { chooseBackend } from "./choose-backend.ts";
import { GRADIENT_CASES } from "./gradient-cases.ts";
import { missingKernels } from "./kernel-census.ts";
import { startBackend } from "./start-backend.ts";
import { tf } from "./tensors.ts";

/** Debian's Chromium brings a Vulkan driver that computes on the processor. It needs the loader, libvulkan1. */
const SOFTWARE_DRIVER = "/usr/lib/chromium/vk_swiftshader_icd.json";

if (existsSync(SOFTWARE_DRIVER)) process.env["VK_ICD_FILENAMES"] ??= SOFTWARE_DRIVER;
const started = await startBackend("webgpu").catch((error: unknown) => String(error));
const skip = typeof started === "string" ? `WebGPU does not start here: ${started.slice(0, 200)}` : false;

t.test("the self-test passes, and the adapter is named", { skip }, async (t) => {
  t.match(started, { name: "webgpu", version: /Dawn$/, selfTest: { passed: true, failures: [] } });
  t.match(started, { devices: [/./] });
});

t.test("it computes every case as the cpu backend does", { skip }, async (t) => {
  const reference = await computedOn("cpu", GRADIENT_CASES);
  compareGradients(t, GRADIENT_CASES, await computedOn("webgpu", GRADIENT_CASES), reference);
});

t.test("a software adapter is taken only when it is asked for", { skip }, async (t) => {
  const isSoftware = typeof started !== "string" && !started.isGpu;
  if (!isSoftware) {
    t.pass("a software adapter", { skip: "there is a GPU here" });
    return;
  }
  const { backend, passedOver } = await chooseBackend();
  t.not(backend.name, "webgpu");
  if (backend.name === "wasm")
    t.match(passedOver.at(-1), { name: "webgpu", reason: "it offers a software adapter only" });
  t.match(await chooseBackend({ requested: "webgpu" }), { backend: { name: "webgpu", isGpu: false } });
});

t.test("it has every kernel that the recipes call", { skip }, async (t) => {
  await tf.setBackend("webgpu");
  for (const id of ["unet-prompter", "rfmedsam2"])
    t.strictSame(missingKernels(findRecipe({ id, version: 1 }).kernels), [], id);
});
