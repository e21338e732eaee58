"""Requests that provoke every response which the OpenAPI document lists, each for its own operation.

case            an operation of the document with one of its responses
valid_request   a request of each operation that succeeds over the upgrade fixture's dump
any_request     errors that many operations have: of HTTP, authentication, limits and bodies
missing         errors about resources that do not exist
states          errors about the state of resources
model_requests  errors of operations that ask a model
stored_files    errors of operations that read or write stored files
servers         the APIs that are asked, each with the errors that it provokes
"""
