// Configuration of the Prisma command line. The running coordinator does not read it.

import { defineConfig } from "prisma/config";

export default defineConfig({ schema: "./schema.prisma", migrations: { path: "./migrations" } });
