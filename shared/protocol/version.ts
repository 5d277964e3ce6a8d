// Protocol versions spoken. A site says its own in every hello; a coordinator that does not accept it answers
// `protocol.unsupported` and names what it accepts.

export const protocolVersion = 1;
export const acceptedProtocolVersions: readonly number[] = [1];
