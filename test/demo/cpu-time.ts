// CPU seconds of this process and of every process that it has started and that has ended, with their children.

import { readFileSync } from "node:fs";

/** The kernel's clock ticks; 100 on every Linux that Node runs on. */
const ticksPerSecond = 100;

/** From /proc; only this process where there is none. */
export function cpuSeconds(): number {
  try {
    const stat = readFileSync("/proc/self/stat", "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    // utime, stime, cutime and cstime are fields 14 to 17 of proc(5); the first here is field 3.
    const ticks = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
    return ticks / ticksPerSecond;
  } catch {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1e6;
  }
}
