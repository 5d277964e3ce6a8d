import t from "tap";
import { REFINEMENT_PLAN } from "./refinement-plan.ts";
import { stageTwoPrompt } from "./stage-prompts.ts";

t.test("stage 2 is asked with stage 1's answer, or with its mask prompt again", (t) => {
  const model = { image: { height: 16, width: 16 }, maskGrid: { height: 4, width: 4 } };
  const maskLogits = new Float32Array(16).fill(-3);
  const prompt = { box: { x1: 0, y1: 0, x2: 8, y2: 8 }, points: [], maskLogits };
  const logits = Float32Array.from({ length: 16 }, (_, cell) => (cell === 5 ? 40 : -40));
  const decoded = { logits, iouScore: 0.9, objectLogit: 5 };
  const asked = (plan: Partial<typeof REFINEMENT_PLAN>, given: typeof prompt | null = prompt) =>
    stageTwoPrompt(given && { prompt: given, decoded }, { model, plan: { ...REFINEMENT_PLAN, ...plan } });
  const box = { x1: 3, y1: 3, x2: 8, y2: 8 };
  t.strictSame(asked({}), { box, points: [], maskLogits: logits.map((logit) => logit * 0.8) }, "clamped");
  t.strictSame(asked({ secondMask: "answer" }), asked({}));
  t.strictSame(asked({ secondMask: "prompt" }), { box, points: [], maskLogits });
  t.strictSame(asked({ secondMask: "prompt", prompts: "boxes" }), { box, points: [], maskLogits: null });
  const bare = { ...prompt, maskLogits: null } as unknown as typeof prompt; // Asked with a box alone.
  t.strictSame(asked({ secondMask: "prompt" }, bare), asked({}), "where there was a mask");
  t.equal(asked({}, null), null);
  t.end();
});
