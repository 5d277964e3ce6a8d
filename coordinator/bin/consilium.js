#!/usr/bin/env node
// Runs the TypeScript sources as they are. The schema library is loaded before the loader that understands TypeScript:
// its seven hundred small files need none, and passing them through it doubles the time a command takes to start.

import "typebox";
import "typebox/value";
import { register } from "tsx/esm/api";

register();
await import("../main.ts");
