// What the native backend is made of, as data: each file with the registry that has it, its size and its digest. A file
// with another digest is never opened. Sizes are rounded up to megabytes and only announced.

export type Registry = "npm" | "pip" | "maven";

export type PinnedFile = {
  readonly registry: Registry;
  /** What the registry's client is asked for. */
  readonly request: string;
  readonly fileName: string;
  readonly megabytes: number;
  readonly digest: { readonly algorithm: "sha256" | "sha512"; readonly hex: string };
};

/** An integrity as npm's lock file has it, as the digest it is. */
function ofIntegrity(integrity: string): PinnedFile["digest"] {
  const base64 = integrity.slice("sha512-".length);
  return { algorithm: "sha512", hex: Buffer.from(base64, "base64").toString("hex") };
}

function npmFile(name: string, version: string, integrity: string): PinnedFile {
  const fileName = `${name.replace("@", "").replace("/", "-")}-${version}.tgz`;
  return {
    registry: "npm",
    request: `${name}@${version}`,
    fileName,
    megabytes: 1,
    digest: ofIntegrity(integrity),
  };
}

type Wheel = { readonly tags: string; readonly megabytes: number; readonly sha256: string };

function wheel(name: string, version: string, { tags, megabytes, sha256 }: Wheel): PinnedFile {
  return {
    registry: "pip",
    request: `${name}==${version}`,
    fileName: `${name.replaceAll("-", "_")}-${version}-${tags}.whl`,
    megabytes,
    digest: { algorithm: "sha256", hex: sha256 },
  };
}

export type Catalogue = {
  /** The packages whose scripts npm could not run, as package-lock.json pins them. */
  readonly nodePackages: Readonly<Record<"cpu" | "gpu", PinnedFile>>;
  /** All that they require at run time and that is not there without them, by the name they require it by. */
  readonly dependencies: Readonly<Record<string, PinnedFile>>;
  /** For a Node that came without its C headers. */
  readonly nodeHeaders: PinnedFile;
  readonly cpuWheel: PinnedFile;
  readonly gpuWheel: PinnedFile;
  /** TensorFlow 2.18 as the Java binding has it, without C headers. */
  readonly cpuJar: PinnedFile;
  /** CUDA 12 and cuDNN 9: what the wheel of TensorFlow asks for as its extra `and-cuda`. */
  readonly cudaWheels: readonly PinnedFile[];
};

const nodePackages = {
  cpu: npmFile(
    "@tensorflow/tfjs-node",
    "4.22.0",
    "sha512-uHrXeUlfgkMxTZqHkESSV7zSdKdV0LlsBeblqkuKU9nnfxB1pC6DtoyYVaLxznzZy7WQSegjcohxxCjAf6Dc7w==",
  ),
  gpu: npmFile(
    "@tensorflow/tfjs-node-gpu",
    "4.22.0",
    "sha512-p//NN6DGiN4hInUmIkRffaFVMcdTREUMjPyjW04J7OXvB2zBlQimj61eFKSgRrH3f5TnOfKzb0n56he/B6a4bw==",
  ),
} as const;

const protobuf = npmFile(
  "google-protobuf",
  "3.21.4",
  "sha512-MnG7N936zcKTco4Jd2PX2U96Kf9PxygAPKBug+74LHzmHXmceN16MmRcdgZv+DGef/S9YvQAfRsNCn4cjf9yyQ==",
);
const progress = npmFile(
  "progress",
  "2.0.3",
  "sha512-7PiHtLll5LdnKIMw100I+8xJXR5gW2QwWYkT6iJva0bXitZKa/XMrSbdmg3r2Xnaidz9Qumd0VPaMrZlF9V9sA==",
);

const nodeHeaders = npmFile(
  "node-api-headers",
  "1.9.0",
  "sha512-2oNILP4jXwRB4ywnYKjVk1YyJ96n2D4EOVJO6S3oYZ5PtbJrw3Yt9TpAuX3nBLMuzn74rnfGQrv13pS9vC+YiA==",
);

const cpuWheel = wheel("tensorflow-cpu", "2.21.0", {
  tags: "cp311-cp311-manylinux_2_27_x86_64",
  megabytes: 274,
  sha256: "2b847d217b02ee7731ed91431daf3250daa0196c3c94614d23be27232e6e5b6c",
});

const gpuWheel = wheel("tensorflow", "2.21.0", {
  tags: "cp311-cp311-manylinux_2_27_x86_64",
  megabytes: 573,
  sha256: "9056fbc9ba04235810b71ae6cbd958a196e8804fb53bbcffbf3e23b56155f124",
});

const cpuJar: PinnedFile = {
  registry: "maven",
  request: "org.tensorflow:tensorflow-core-native:1.1.0:jar:linux-x86_64",
  fileName: "tensorflow-core-native-1.1.0-linux-x86_64.jar",
  megabytes: 161,
  digest: {
    algorithm: "sha256",
    hex: "81b0e11290ba3b2e134901395ef59f1ae616f8ab7931f0d5c3eeb89c1b97c4e6",
  },
};

const cudaWheels = [
  wheel("nvidia-cublas-cu12", "12.9.3.13", {
    tags: "py3-none-manylinux_2_27_x86_64",
    megabytes: 581,
    sha256: "d7d51055f161b317c7105ddaae90e71eda059026074ffef93cf7cde2886bfe72",
  }),
  wheel("nvidia-cuda-cupti-cu12", "12.8.90", {
    tags: "py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64",
    megabytes: 10,
    sha256: "ea0cb07ebda26bb9b29ba82cda34849e73c166c18162d3913575b0c9db9a6182",
  }),
  wheel("nvidia-cuda-nvcc-cu12", "12.9.86", {
    tags: "py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64",
    megabytes: 41,
    sha256: "5d6a0d32fdc7ea39917c20065614ae93add6f577d840233237ff08e9a38f58f0",
  }),
  wheel("nvidia-cuda-nvrtc-cu12", "12.9.86", {
    tags: "py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64",
    megabytes: 90,
    sha256: "210cf05005a447e29214e9ce50851e83fc5f4358df8b453155d5e1918094dcb4",
  }),
  wheel("nvidia-cuda-runtime-cu12", "12.9.79", {
    tags: "py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64",
    megabytes: 4,
    sha256: "25bba2dfb01d48a9b59ca474a1ac43c6ebf7011f1b0b8cc44f54eb6ac48a96c3",
  }),
  wheel("nvidia-cudnn-cu12", "9.28.0.42", {
    tags: "py3-none-manylinux_2_27_x86_64",
    megabytes: 717,
    sha256: "9ff58b7f36dacd0a93e89f8f2957b52466889217963701daa15e577317cfa375",
  }),
  wheel("nvidia-cufft-cu12", "11.4.1.4", {
    tags: "py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64",
    megabytes: 201,
    sha256: "c67884f2a7d276b4b80eb56a79322a95df592ae5e765cf1243693365ccab4e28",
  }),
  wheel("nvidia-curand-cu12", "10.3.10.19", {
    tags: "py3-none-manylinux_2_27_x86_64",
    megabytes: 68,
    sha256: "49b274db4780d421bd2ccd362e1415c13887c53c214f0d4b761752b8f9f6aa1e",
  }),
  wheel("nvidia-cusolver-cu12", "11.7.5.82", {
    tags: "py3-none-manylinux_2_27_x86_64",
    megabytes: 338,
    sha256: "15da72d1340d29b5b3cf3fd100e3cd53421dde36002eda6ed93811af63c40d88",
  }),
  wheel("nvidia-cusparse-cu12", "12.5.10.65", {
    tags: "py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64",
    megabytes: 367,
    sha256: "73060ce019ac064a057267c585bf1fd5a353734151f87472ff02b2c5c9984e78",
  }),
  wheel("nvidia-nccl-cu12", "2.32.3", {
    tags: "py3-none-manylinux_2_27_x86_64",
    megabytes: 352,
    sha256: "bb94b2348e4861d5e8aa00b36c3d12d9bdf9c6369b82cbb723de0b582280a21c",
  }),
  wheel("nvidia-nvjitlink-cu12", "12.9.86", {
    tags: "py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64",
    megabytes: 40,
    sha256: "e3f1171dbdc83c5932a45f0f4c99180a70de9bd2718c1ab77d14104f6d7147f9",
  }),
];

export const pinnedFiles: Catalogue = {
  nodePackages,
  dependencies: { "google-protobuf": protobuf, progress },
  nodeHeaders,
  cpuWheel,
  gpuWheel,
  cpuJar,
  cudaWheels,
};
