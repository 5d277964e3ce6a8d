import { createHash } from "node:crypto";
import { Prng } from "@consilium/shared/base/prng.ts";
import t from "tap";
import { tightBox } from "../prompts/pixel-box.ts";
import { DRAWN_VOLUME_PLAN, type DrawnVolume, type DrawnVolumePlan, drawVolume } from "./drawn-shapes.ts";
import { makeObjects, touchedObjects } from "./drawn-shapes-objects.ts";
import { type OutlineKind, outlineFamilies } from "./drawn-shapes-outlines.ts";

const PLAN: DrawnVolumePlan = { ...DRAWN_VOLUME_PLAN, depth: 32, height: 96, width: 96 };
/** Objects of fewer pixels in a slice are never prompted. */
const SEEN_PIXELS_MIN = 10;

const volumes = Array.from({ length: 8 }, (_, index) => drawVolume(PLAN, 100 + index));

/** Every object in every slice in which it is seen: its pixels. */
function masksOf({ labels, depth, height, width, objectCount }: DrawnVolume) {
  const pixels = height * width;
  return Array.from({ length: objectCount }, (_, object) =>
    Array.from({ length: depth }, (_, slice) => {
      const seen = labels.subarray(slice * pixels, (slice + 1) * pixels);
      return seen.map((label) => Number(label === object + 1));
    }),
  );
}

const masks = new Map(volumes.map((volume) => [volume, masksOf(volume)]));
const allMasks = [...masks.values()].flat();

function area(mask: Uint8Array): number {
  let sum = 0;
  for (const value of mask) sum += value;
  return sum;
}

/** What a filled box scores: the whole object lies in it, so the overlap is the object and the union the box. */
function filledBoxIou(mask: Uint8Array, size: { height: number; width: number }): number {
  const box = tightBox(mask, size);
  return box ? area(mask) / ((box.x2 - box.x1 + 1) * (box.y2 - box.y1 + 1)) : Number.NaN;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function dice(a: Uint8Array, b: Uint8Array): number {
  const common = area(a.map((value, pixel) => value & (b[pixel] ?? 0)));
  return (2 * common) / (area(a) + area(b));
}

function digest({ image, labels }: DrawnVolume): string {
  return createHash("sha256").update(Buffer.from(image.buffer)).update(labels).digest("hex");
}

t.test("the same seed gives the same bytes, another seed another volume", async (t) => {
  const [first] = volumes;
  t.equal(digest(drawVolume(PLAN, 100)), first && digest(first));
  t.equal(new Set(volumes.map(digest)).size, volumes.length);
});

t.test("a filled box is no answer: over all objects its IoU averages at most 0.6", async (t) => {
  const ious = allMasks
    .flat()
    .filter((mask) => area(mask) >= SEEN_PIXELS_MIN)
    .map((mask) => filledBoxIou(mask, PLAN));
  t.ok(ious.length > 500, `${ious.length} objects in slices`);
  t.ok(mean(ious) <= 0.6, `mean ${mean(ious)}`);
  t.ok(mean(ious) >= 0.35, "nor are all of them thin");
  const compact = ious.filter((iou) => iou > 0.65).length / ious.length;
  t.ok(compact > 0.1 && compact < 0.5, `${compact} of them are compact`);
  const square = Uint8Array.from({ length: 25 }, (_, pixel) => Number(pixel % 5 < 3 && pixel < 15));
  t.equal(filledBoxIou(square, { height: 5, width: 5 }), 1, "the measure knows a box");
});

t.test("every kind of outline keeps within its reach and fills its box as its name says", async (t) => {
  const size = { height: 101, width: 101 };
  const between: Record<OutlineKind, readonly [number, number]> = {
    spot: [0.7, 0.85],
    blob: [0.5, 0.85],
    polygon: [0.4, 0.8],
    star: [0.3, 0.7],
    shell: [0.2, 0.6],
    arc: [0.1, 0.5],
    crescent: [0.2, 0.65],
    bar: [0.3, 0.85],
    wave: [0.1, 0.6],
    fork: [0.05, 0.5],
  };
  for (const [kind, [low, high]] of Object.entries(between)) {
    const family = outlineFamilies[kind as OutlineKind]; // A key of the table above.
    const ious = Array.from({ length: 20 }, (_, seed) => {
      const outline = family(Prng.labelled(seed, kind))(0.3);
      const turn = seed / 3;
      const mask = Uint8Array.from({ length: 101 * 101 }, (_, pixel) => {
        const [x, y] = [((pixel % 101) - 50) / 47, (Math.floor(pixel / 101) - 50) / 47];
        return Number(
          outline(x * Math.cos(turn) + y * Math.sin(turn), y * Math.cos(turn) - x * Math.sin(turn)),
        );
      });
      const border = mask.filter((value, pixel) => value === 1 && (pixel % 101 === 0 || pixel < 101));
      t.equal(border.length, 0, `${kind} ends before 1.06`);
      return filledBoxIou(mask, size);
    });
    t.ok(mean(ious) > low && mean(ious) < high, `${kind}: ${mean(ious)}`);
    t.ok(ious.every((iou) => iou > 0.02));
  }
});

t.test("an object is nearly the same in the next slice and another one eight slices on", async (t) => {
  const atDistance = (distance: number) => {
    const pairs = allMasks.flatMap((slices) =>
      slices.slice(distance).flatMap((mask, slice) => {
        const before = slices[slice];
        const isSeen = before && area(before) >= SEEN_PIXELS_MIN && area(mask) >= SEEN_PIXELS_MIN;
        return isSeen ? [dice(before, mask)] : [];
      }),
    );
    return mean(pairs);
  };
  t.ok(atDistance(1) > 0.8, `next: ${atDistance(1)}`);
  t.ok(atDistance(8) < atDistance(1) - 0.2, `eight on: ${atDistance(8)}`);
});

t.test("objects lie within and over each other, several to a slice", async (t) => {
  const size = { depth: 32, height: 96, width: 96 };
  const lists = volumes.map((_, seed) => makeObjects(10, size, new Prng(seed)));
  const nested = lists.flat().filter(({ host }) => host !== null).length / lists.flat().length;
  t.ok(nested > 0.15 && nested < 0.5, `${nested} are nested`);
  for (const objects of lists) {
    t.ok(objects.every(({ host }, index) => host === null || host < index, "a host lies below"));
    const touched = touchedObjects(objects);
    t.ok(touched.every((numbers, index) => numbers.every((number) => number <= index)));
  }
  t.ok(lists.some((objects) => touchedObjects(objects).some((touched) => touched.length > 2)));
  const seen = allMasks.flat().filter((mask) => area(mask) >= SEEN_PIXELS_MIN).length;
  const perSlice = seen / (volumes.length * PLAN.depth);
  t.ok(perSlice > 2, `${perSlice} in a slice`);
});

t.test("brightness lies between 0 and 1, contrast is often low, and objects still show", async (t) => {
  const deviations = volumes.map(({ image }) => {
    t.ok(image.every((value) => value >= 0 && value <= 1));
    const middle = mean([...image]);
    return Math.sqrt(mean([...image].map((value) => (value - middle) ** 2)));
  });
  t.ok(Math.min(...deviations) < 0.08 && Math.max(...deviations) > 0.12, deviations.join(" "));
  const clipped = volumes.map(({ image }) => image.filter((value) => value === 0 || value === 1).length);
  t.ok(mean(clipped) / (32 * 96 * 96) < 0.1);
  const contrasts = volumes.flatMap(edgeContrasts);
  const showing = contrasts.filter((contrast) => contrast > 0.02).length / contrasts.length;
  t.ok(showing > 0.85, `${showing} of the objects differ from what lies round them`);
});

/** Mean brightness inside against that of the pixels just outside, for every object in its middle slices. */
function edgeContrasts(volume: DrawnVolume): number[] {
  const { image, height, width } = volume;
  return (masks.get(volume) ?? []).flatMap((slices) => {
    const slice = slices.findIndex((mask) => area(mask) >= 40);
    const mask = slices[slice];
    if (!mask) return [];
    const values = image.subarray(slice * height * width, (slice + 1) * height * width);
    const isNear = (pixel: number) =>
      [1, 2, 3].some((step) =>
        [step, -step, step * width, -step * width].some((move) => mask[pixel + move] === 1),
      );
    const inside = [...values].filter((_, pixel) => mask[pixel] === 1);
    const outside = [...values].filter((_, pixel) => mask[pixel] === 0 && isNear(pixel));
    return [Math.abs(mean(inside) - mean(outside))];
  });
}

t.test("sizes beyond all bounds are refused, and small volumes are drawn", async (t) => {
  const small = drawVolume({ depth: 1, height: 16, width: 40, objectCountMin: 1, objectCountMax: 1 }, 3);
  t.equal(small.image.length, 16 * 40);
  t.ok(small.labels.every((label) => label <= small.objectCount));
  t.throws(() => drawVolume({ ...PLAN, height: 8 }, 1), /sides of 16/);
  t.throws(() => drawVolume({ ...PLAN, depth: 0 }, 1), /slices/);
  t.throws(() => drawVolume({ ...PLAN, objectCountMin: 0 }, 1), /an object/);
  t.throws(() => drawVolume({ ...PLAN, objectCountMax: 65 }, 1), /at most 64/);
});
