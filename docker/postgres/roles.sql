-- Run once by a superuser, with psql: the owner of the coordinator's database. It may create roles because the first
-- migration makes the one that the running coordinator works as.

\getenv password CONSILIUM_OWNER_PASSWORD
CREATE ROLE consilium_owner LOGIN CREATEROLE PASSWORD :'password';
CREATE DATABASE consilium OWNER consilium_owner;
