// The integer hash from which the goldens draw weights, inputs and probe vectors (their README, "Numbers by formula").

/** `count` numbers in [-1, 1), multiples of 2^-23. */
export function hashValues(name: string, count: number): Float32Array {
  const start = fnv1a(name);
  return Float32Array.from({ length: count }, (_, index) => {
    const bits = mix((Math.imul(index, 0x9e3779b1) + start) >>> 0) >>> 8;
    return (bits - 2 ** 23) / 2 ** 23;
  });
}

/** FNV-1a of the UTF-8 bytes, 32 bits. */
export function fnv1a(text: string): number {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}

/** Every bit of the result depends on every bit of the value. */
export function mix(value: number): number {
  let x = value;
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}
