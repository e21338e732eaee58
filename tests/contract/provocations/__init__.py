"""Requests that provoke every response which the OpenAPI document lists, each for its own operation.

case            an operation of the document with one of its responses
comparison      an answer with the response that the document lists
valid_request   a request of each operation that succeeds over the upgrade fixture's dump
successes       responses that are successful, after more than one request
any_request     errors that many operations have: of HTTP, authentication, limits and bodies
missing         errors about resources that do not exist
states          errors about the state of resources
model_requests  errors of operations that ask a model
stored_files    damaged files, and files in a bucket
busy_engine     a queue of requests that stays full
parser_process  the process that parses large bodies, killed
servers         the APIs that are asked, each with the errors that it provokes
"""
