// What a client's raw bytes say, read back from an unencrypted connection: the bodies of its HTTP requests and the
// texts of its websocket frames (RFC 6455, masked, unfragmented). For tests of what leaves the house.

export type OutboundPayload = { readonly channel: "http" | "socket"; readonly bytes: Buffer };

/** @throws when the bytes are neither requests nor frames */
export function outboundPayloads(stream: Buffer): OutboundPayload[] {
  const payloads: OutboundPayload[] = [];
  let rest = stream;
  while (rest.length > 0) {
    const headEnd = rest.indexOf("\r\n\r\n");
    if (headEnd < 0) throw new Error("an unfinished request");
    const head = rest.subarray(0, headEnd).toString("latin1");
    const length = Number(/^content-length: ([0-9]+)$/im.exec(head)?.[1] ?? 0);
    rest = rest.subarray(headEnd + 4);
    if (/^upgrade: websocket$/im.test(head)) return [...payloads, ...socketTexts(rest)];
    payloads.push({ channel: "http", bytes: rest.subarray(0, length) });
    rest = rest.subarray(length);
  }
  return payloads;
}

function socketTexts(stream: Buffer): OutboundPayload[] {
  const texts: OutboundPayload[] = [];
  let rest = stream;
  while (rest.length >= 2) {
    const { headBytes, length } = frameSize(rest);
    const mask = rest.subarray(headBytes - 4, headBytes);
    const body = Buffer.from(rest.subarray(headBytes, headBytes + length));
    for (let index = 0; index < body.length; index += 1)
      body[index] = (body[index] ?? 0) ^ (mask[index % 4] ?? 0);
    if (((rest[0] ?? 0) & 0x0f) === 1) texts.push({ channel: "socket", bytes: body });
    rest = rest.subarray(headBytes + length);
  }
  return texts;
}

function frameSize(frame: Buffer): { headBytes: number; length: number } {
  const short = (frame[1] ?? 0) & 0x7f;
  if (short === 126) return { headBytes: 8, length: frame.readUInt16BE(2) };
  if (short === 127) return { headBytes: 14, length: Number(frame.readBigUInt64BE(2)) };
  return { headBytes: 6, length: short };
}
