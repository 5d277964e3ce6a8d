// The checkpoints of SAM 2.1 that have a name, by the SHA-256 of the file: those that Meta published and the small one
// that comes with this project. A file that is not here is no fault: it is only not one of these.

/** SHA-256 of the .pt files that Meta published, as mirrors of them state, and of our own safetensors file. */
const PUBLISHED: ReadonlyMap<string, string> = new Map([
  ["7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69", "sam2.1_hiera_tiny"],
  ["6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38", "sam2.1_hiera_small"],
  ["a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5", "sam2.1_hiera_base_plus"],
  ["2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318", "sam2.1_hiera_large"],
  ["7c053ea6fe1150ef1ee5cfcdc1164bfd867b3ce45ca72aea1d51a61dec4cd223", "consilium-pretrained-micro"],
]);

/** Name of the published file, or null. */
export function publishedSam2(sha256: string): string | null {
  return PUBLISHED.get(sha256) ?? null;
}
