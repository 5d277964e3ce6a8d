// How the ordinary clients of the registries are asked for one file, each with its own settings (mirrors, proxies) and
// with its caches inside the project's folder. Which registry they speak to is theirs to know.

import { join } from "node:path";
import type { PinnedFile } from "./pinned-files.ts";
import { type Command, firstPresent, type RunCommand } from "./run-command.ts";

/** Any Python will do: it only downloads, and the file is for another one anyway. */
const PYTHONS = ["python3", "python"];

export type RegistryClients = {
  /** A Python that has pip. */
  readonly python: string | null;
  readonly maven: string | null;
};

export async function findClients(run: RunCommand): Promise<RegistryClients> {
  const python = await firstPresent(PYTHONS, ["-m", "pip", "--version"], run);
  return { python, maven: python ? null : await findMaven(run) };
}

export const findMaven = (run: RunCommand): Promise<string | null> =>
  firstPresent(["mvn"], ["--version"], run);

/** The command that leaves the file in a folder. Null where its client is not there. */
export function fetchCommand(file: PinnedFile, clients: RegistryClients, folder: string): Command | null {
  const { registry, request } = file;
  const environment = { TMPDIR: folder };
  if (registry === "npm") {
    const cache = join(folder, "npm-cache");
    const args = ["pack", request, "--pack-destination", folder, "--cache", cache, "--ignore-scripts"];
    return { program: "npm", args, environment };
  }
  if (registry === "pip") {
    if (!clients.python) return null;
    return { program: clients.python, args: pipArguments(file, folder), environment };
  }
  if (!clients.maven) return null;
  const repository = `-Dmaven.repo.local=${join(folder, "maven")}`;
  const goal = ["dependency:copy", `-Dartifact=${request}`, `-DoutputDirectory=${folder}`];
  return { program: clients.maven, args: ["-B", "-q", ...goal, repository], environment };
}

function pipArguments({ request, fileName }: PinnedFile, folder: string): string[] {
  // The last part of a wheel's name says for which machines it is; pip must be told that it is ours.
  const platforms = (
    fileName
      .replace(/\.whl$/, "")
      .split("-")
      .at(-1) ?? ""
  ).split(".");
  return [
    ...["-m", "pip", "download", "--no-deps", "--no-cache-dir", "--disable-pip-version-check", "--quiet"],
    ...["--only-binary=:all:", "--python-version", "3.11", "--implementation", "cp"],
    ...platforms.flatMap((platform) => ["--platform", platform]),
    ...["--dest", folder, request],
  ];
}
